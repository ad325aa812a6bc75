package routing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// VisitHandlers calls visit for the handlers of a server, with the hosts for which routes lead to them: names, patterns such as
// *.example.com, and "" if requests of every host get there. Hosts with a placeholder are left out: they name nothing by themselves.
func VisitHandlers(server *caddyhttp.Server, visit func(handler caddyhttp.MiddlewareHandler, hosts []string)) {
	w := &hostWalk{server: server, visit: visit, followed: make(map[string]bool)}
	w.routes(server.Routes, []string{""})
}

type hostWalk struct {
	server *caddyhttp.Server
	visit  func(caddyhttp.MiddlewareHandler, []string)

	// followed has the named routes with the hosts of requests that they were followed for. Once is enough: they may invoke each other
	// in a circle, or many times.
	followed map[string]bool
}

func (w *hostWalk) routes(routes caddyhttp.RouteList, hosts []string) {
	for i := range routes {
		reached := hostsOf(&routes[i], hosts)
		for _, handler := range routes[i].Handlers {
			w.visit(handler, reached)
			switch handler := handler.(type) {
			case *caddyhttp.Subroute:
				w.routes(handler.Routes, reached)
			case *caddyhttp.Invoke:
				named, key := w.server.NamedRoutes[handler.Name], fmt.Sprintf("%q %q", handler.Name, reached)
				if named != nil && !w.followed[key] {
					w.followed[key] = true
					w.routes(caddyhttp.RouteList{*named}, reached)
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
