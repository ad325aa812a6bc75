package routing

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// maxDepth bounds how deep routes are followed: named routes may invoke each other in a circle.
const maxDepth = 32

// Hosts returns the names of the hosts for which routes of a server lead to a handler that serves reports as wanted. "" is among them
// if one of these routes takes requests of any host. Names that match several hosts, or that have a placeholder, are left out: they
// are not the name of a host.
func Hosts(server *caddyhttp.Server, serves func(caddyhttp.MiddlewareHandler) bool) []string {
	w := &hostWalk{server: server, serves: serves}
	w.routes(server.Routes, []string{""}, 0)
	slices.Sort(w.found)
	return slices.Compact(w.found)
}

type hostWalk struct {
	server *caddyhttp.Server
	serves func(caddyhttp.MiddlewareHandler) bool
	found  []string
}

func (w *hostWalk) routes(routes caddyhttp.RouteList, hosts []string, depth int) {
	if depth > maxDepth {
		return
	}
	for i := range routes {
		reached := hostsOf(&routes[i], hosts)
		for _, handler := range routes[i].Handlers {
			if w.serves(handler) {
				w.found = append(w.found, reached...)
			}
			switch handler := handler.(type) {
			case *caddyhttp.Subroute:
				w.routes(handler.Routes, reached, depth+1)
			case *caddyhttp.Invoke:
				if named := w.server.NamedRoutes[handler.Name]; named != nil {
					w.routes(caddyhttp.RouteList{*named}, reached, depth+1)
				}
			}
		}
	}
}

// hostsOf returns the hosts of requests that a route takes, of those that reach it.
func hostsOf(route *caddyhttp.Route, reaching []string) (hosts []string) {
	if len(route.MatcherSets) == 0 {
		return reaching
	}
	for _, set := range route.MatcherSets {
		names := reaching
		for _, matcher := range set {
			if own, ok := matcher.(*caddyhttp.MatchHost); ok {
				names = slices.DeleteFunc(slices.Clone([]string(*own)), func(name string) bool { return strings.ContainsAny(name, "*{") })
			}
		}
		hosts = append(hosts, names...)
	}
	return hosts
}
