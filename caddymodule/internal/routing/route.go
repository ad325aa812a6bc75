// Package routing makes the routes of our directives so that Caddy does not drop them, and refuses configurations in which it would.
// Caddy consolidates routes in ways that lose handlers silently; a messenger_auth that is lost leaves its backend open.
//
// It knows Caddy's routes, and does not know what our handlers do.
//
// Begin reading with [NewRoute], which the Caddyfile adapter calls, and [CheckNamedRoutes], which covers configurations in JSON.
// invoke.go has a case that neither can see.
package routing

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Caddy merges adjacent routes that have the same matchers, and keeps all of their handlers, except in a named route: if
// that ends up as a single route without a matcher, Caddy keeps its first handler and drops the others silently. Without its
// messenger_auth, a route passes every request with the headers that the client forged. So the routes of our directives never
// merge with another directive's there. Where that does not help, because the directive is inside a handle block that is dropped as
// a whole, the Caddyfile is refused.

// NewRoute returns the route of a directive of ours. In a named route it is never merged with the routes of other directives.
func NewRoute(h httpcaddyfile.Helper, matcher caddy.ModuleMap, handler caddyhttp.MiddlewareHandler) ([]httpcaddyfile.ConfigValue, error) {
	separateGroups(h)
	values := h.NewRoute(matcher, handler)
	if !h.IsNamedRoute() {
		return values, nil
	}
	if err := checkNamedRoute(h); err != nil {
		return nil, err
	}
	for i := range values {
		r, ok := values[i].Value.(caddyhttp.Route)
		if !ok || matcher != nil {
			continue
		}
		// Not nil: that makes it differ from the routes of other directives, and it is still sorted as one without a matcher.
		r.MatcherSetsRaw = []caddy.ModuleMap{}
		if module, ok := handler.(caddy.Module); ok && module.CaddyModule().ID.Name() == "messenger_auth" {
			// One empty set matches every request. With it, several messenger_auth may merge: a route with a matcher
			// keeps all of its handlers.
			r.MatcherSetsRaw = []caddy.ModuleMap{{}}
		}
		values[i].Value = r
	}
	return values, nil
}

// ParseAnswering reads a directive that answers the requests that match.
func ParseAnswering(h httpcaddyfile.Helper, handler interface {
	caddyhttp.MiddlewareHandler
	caddyfile.Unmarshaler
}) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the name of the directive
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return NewRoute(h, matcher, handler)
}

const (
	stateChecked = "messenger_auth.named_route" // the named route that was checked last
	stateGroups  = "messenger_auth.groups"      // whether the numbers of groups are separate already
)

// checkNamedRoute refuses the named route that h is in if Caddy would drop handlers of it.
func checkNamedRoute(h httpcaddyfile.Helper) error {
	block := private[caddyfile.ServerBlock](&h, "parentBlock")
	if block == nil || len(block.Keys) != 1 || !watchesInvokes || private[map[string]any](&h, "options") == nil || private[map[string]caddy.ModuleMap](&h, "matcherDefs") == nil {
		return h.Err("this version of Caddy does not let the gateway check that nothing is dropped from a named route; write the directive into the site")
	}
	name := block.Keys[0].Text
	if h.State[stateChecked] == name {
		return nil // checked, or being checked: merged below parses this block again
	}
	h.State[stateChecked] = name
	if len(merged(h, block)) > 1 {
		return h.Err(droppedFrom(name))
	}
	return nil
}

func droppedFrom(name string) string {
	return fmt.Sprintf("in the named route %s Caddy keeps only the first directive and silently drops the others, "+
		"because none of them has a matcher; put its whole content into one block: &(%s) { route { … } }", name, name)
}

// merged builds the named route that h is in as Caddy does. If the result is a single route without a matcher, it returns its
// handlers, of which Caddy keeps the first.
func merged(h httpcaddyfile.Helper, block *caddyfile.ServerBlock) []json.RawMessage {
	matchers := private[map[string]caddy.ModuleMap](&h, "matcherDefs")
	if matchers == nil {
		return nil
	}
	var tokens []caddyfile.Token
	for _, segment := range block.Segments {
		tokens = append(tokens, segment...)
	}
	*matchers = nil // the matchers of this scope are defined in the block, and may be defined once
	h.BlockState = h.State
	built, err := httpcaddyfile.ParseSegmentAsSubroute(h.WithDispenser(caddyfile.NewDispenser(tokens)))
	if err != nil {
		return nil // Caddy reports the same mistake, with its line
	}
	routes := built.(*caddyhttp.Subroute).Routes
	if len(routes) != 1 || len(routes[0].MatcherSetsRaw) > 0 {
		return nil
	}
	return routes[0].HandlersRaw
}

// private returns a pointer to an unexported field of h, or nil if Caddy's Helper has no such field. A Helper shows that
// it is in a named route, but not what else is in it.
func private[T any](h *httpcaddyfile.Helper, name string) *T {
	field := reflect.ValueOf(h).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return (*T)(field.Addr().UnsafePointer())
}

// Caddy numbers the groups of handle blocks from zero in the named routes, and from zero again in the sites. Of a group,
// a request takes one block only: after a handle of the site, one of the same number in the named route that it invokes is
// skipped, with the messenger_auth in it. Groups around a directive of ours, or around an invoke, get numbers that no other
// group has.
const (
	siteGroups  = 10_000
	namedGroups = 20_000
)

func separateGroups(h httpcaddyfile.Helper) {
	first := siteGroups
	if h.IsNamedRoute() {
		first = namedGroups
	} else if named, _ := h.Option("named_routes").(map[string]*caddyhttp.Route); len(named) == 0 {
		return
	}
	if h.State[stateGroups] != nil {
		return
	}
	h.State[stateGroups] = true
	for range first {
		h.GroupRoutes([]httpcaddyfile.ConfigValue{{Value: caddyhttp.Route{}}, {Value: caddyhttp.Route{}}}) // takes a number
	}
}
