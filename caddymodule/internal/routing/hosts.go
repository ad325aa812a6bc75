package routing

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// maxDepth bounds how deep routes are followed: named routes may invoke each other in a circle.
const maxDepth = 32

// VisitHandlers calls visit for the handlers of a server, with the hosts for which routes lead to them: names, patterns such as
// *.example.com, and "" if requests of every host get there. Hosts with a placeholder are left out: they name nothing by themselves.
func VisitHandlers(server *caddyhttp.Server, visit func(handler caddyhttp.MiddlewareHandler, hosts []string)) {
	w := &hostWalk{server: server, visit: visit}
	w.routes(server.Routes, []string{""}, 0)
}

type hostWalk struct {
	server *caddyhttp.Server
	visit  func(caddyhttp.MiddlewareHandler, []string)
}

func (w *hostWalk) routes(routes caddyhttp.RouteList, hosts []string, depth int) {
	if depth > maxDepth {
		return
	}
	for i := range routes {
		reached := hostsOf(&routes[i], hosts)
		for _, handler := range routes[i].Handlers {
			w.visit(handler, reached)
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
				names = slices.DeleteFunc(slices.Clone([]string(*own)), func(name string) bool { return strings.Contains(name, "{") })
			}
		}
		hosts = append(hosts, names...)
	}
	return hosts
}
