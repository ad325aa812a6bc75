package routing

import (
	"fmt"
	"slices"
	_ "unsafe" // for go:linkname

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// From a named route such as
//
//	&(chat) {
//		header -Server
//		invoke auth
//	}
//
// Caddy drops the invoke silently, and with it the messenger_auth of the named route auth. There is no directive of ours in chat,
// and none need be in the site, so our code is not called there; and if the same server invokes auth elsewhere too, the JSON does
// not show the loss. So we look at every invoke while it is parsed.

// directives is Caddy's table of directives. Caddy offers no other way to change one of its own directives.
//
//go:linkname directives github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile.registeredDirectives
var directives map[string]httpcaddyfile.UnmarshalFunc

// watchesInvokes is false in a version of Caddy whose table has another name. There, NewRoute refuses named routes.
var watchesInvokes = watchInvokes()

func watchInvokes() bool {
	read, found := directives["invoke"]
	if found {
		directives["invoke"] = func(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
			separateGroups(h) // the invoke may lead to a directive of ours, and its block must not be skipped
			values, err := read(h)
			if err == nil {
				err = checkInvoke(h, values)
			}
			return values, err
		}
	}
	return found
}

const (
	stateInvokes  = "messenger_auth.invokes" // the named route whose invokes were examined last
	optionDropped = "messenger_auth.dropped" // the named routes whose invokes Caddy drops, by the named route that has the invoke
)

// checkInvoke records, in a named route, which invokes Caddy drops from it. In a site it refuses to invoke a named route from which
// an invoke was dropped that leads to a directive of ours.
func checkInvoke(h httpcaddyfile.Helper, values []httpcaddyfile.ConfigValue) error {
	if h.IsNamedRoute() {
		return recordDropped(h)
	}
	dropped, _ := h.Option(optionDropped).(map[string][]string)
	if len(dropped) == 0 {
		return nil
	}
	routes, _ := h.Option("named_routes").(map[string]*caddyhttp.Route)
	named := make(map[string]content, len(routes))
	for name, route := range routes {
		named[name] = contentOf(caddyhttp.RouteList{*route})
	}
	var site content
	for _, value := range values {
		if route, ok := value.Value.(caddyhttp.Route); ok {
			site.add(contentOf(caddyhttp.RouteList{route}))
		}
	}
	for _, name := range reachable(site.invoked, named, nil) {
		for _, lost := range reachable(dropped[name], named, dropped) {
			if named[lost].ours {
				return h.Err(droppedFrom(name) + fmt.Sprintf("; this would drop invoke %s, which has a directive of the gateway in it", lost))
			}
		}
	}
	return nil
}

// reachable returns the named routes that can be reached by invokes from names, names included. dropped are further invokes; it may
// be nil.
func reachable(names []string, named map[string]content, dropped map[string][]string) (list []string) {
	reached := map[string]bool{}
	for open := names; len(open) > 0; {
		name := open[0]
		open = open[1:]
		if !reached[name] {
			reached[name] = true
			list = append(list, name)
			open = append(append(slices.Clip(open), named[name].invoked...), dropped[name]...)
		}
	}
	return list
}

func recordDropped(h httpcaddyfile.Helper) error {
	block := private[caddyfile.ServerBlock](&h, "parentBlock")
	options := private[map[string]any](&h, "options")
	if block == nil || options == nil || *options == nil || len(block.Keys) != 1 {
		return nil // NewRoute refuses named routes there
	}
	name := block.Keys[0].Text
	if h.State[stateInvokes] == name {
		return nil // done, or being done: merged below parses this block again
	}
	h.State[stateInvokes] = name
	handlers := merged(h, block)
	if len(handlers) < 2 {
		return nil
	}
	lost := contentOf(caddyhttp.RouteList{{HandlersRaw: handlers[1:]}})
	dropped, _ := (*options)[optionDropped].(map[string][]string)
	if dropped == nil {
		dropped = make(map[string][]string)
		(*options)[optionDropped] = dropped
	}
	dropped[name] = lost.invoked
	return nil
}
