package routing

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// CheckNamedRoutes refuses a named route that has a handler of ours, and to which no invoke leads. The Caddyfile adapter
// attaches a named route to a server because something invokes it there. If nothing does, then the adapter dropped the
// invoke from another named route (see NewRoute), while what messenger_auth should guard may still be served.
//
// It also refuses to invoke one with messenger_auth in a subroute that has errors. Caddy goes on with what follows such a subroute if
// no error route answers, and messenger_auth stops a request that it has refused there only at subroutes that it is in (see auth).
//
// A handler calls it while it is provisioned, so that "caddy validate" finds this too, and the server never starts.
func CheckNamedRoutes(ctx caddy.Context) error {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || len(server.NamedRoutes) == 0 {
		return nil
	}
	named := make(map[string]content, len(server.NamedRoutes))
	for name, route := range server.NamedRoutes {
		if route != nil {
			named[name] = contentOf(caddyhttp.RouteList{*route})
		}
	}
	site := contentOf(server.Routes)
	if server.Errors != nil {
		site.add(contentOf(server.Errors.Routes))
	}
	reached := reachable(site.invoked, named, nil)
	caught := site.caught
	for _, name := range slices.Sorted(maps.Keys(named)) {
		caught = append(caught, named[name].caught...)
		if named[name].ours && !slices.Contains(reached, name) {
			return fmt.Errorf("nothing invokes the named route %s, which has a directive of the gateway in it; if another named route should invoke it, Caddy dropped that, "+
				"because it keeps only the first directive if none has a matcher: put the whole content of the other one into one block, route { … }", name)
		}
	}
	for _, name := range reachable(caught, named, nil) {
		if named[name].guards {
			return fmt.Errorf("a subroute that has errors invokes the named route %s, which has messenger_auth in it: what it refuses would go on behind that subroute; "+
				"move the errors into the named route, around messenger_auth, or to the server", name)
		}
	}
	return nil
}

// content is what routes have in them, at any depth.
type content struct {
	invoked []string // named routes
	caught  []string // those of them whose errors a subroute here handles; a handler in a named route does not know of that subroute
	ours    bool     // a handler of ours
	guards  bool     // messenger_auth
}

func (c *content) add(other content) {
	c.invoked = append(c.invoked, other.invoked...)
	c.caught = append(c.caught, other.caught...)
	c.ours, c.guards = c.ours || other.ours, c.guards || other.guards
}

// catch says that c is of the routes of a subroute that has errors. What its error routes invoke they do not catch.
func (c *content) catch() { c.caught = append(c.caught, c.invoked...) }

// contentOf returns the content of routes. Routes that are not provisioned yet, or are being provisioned, still have their JSON.
func contentOf(routes caddyhttp.RouteList) (c content) {
	for i := range routes {
		for _, raw := range routes[i].HandlersRaw {
			var handler any
			if json.Unmarshal(raw, &handler) == nil { // Caddy reports invalid JSON itself
				c.addJSON(handler)
			}
		}
		if len(routes[i].HandlersRaw) == 0 {
			for _, handler := range routes[i].Handlers {
				c.addHandler(handler)
			}
		}
	}
	return c
}

func (c *content) addJSON(value any) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			c.addJSON(element)
		}
	case map[string]any:
		var inner content
		var errors []any // usually one
		handler, _ := value["handler"].(string)
		inner.addModule(handler)
		for key, member := range value {
			name, _ := member.(string)
			switch { // as encoding/json reads them, in any case
			case handler == "invoke" && strings.EqualFold(key, "name"):
				inner.invoked = append(inner.invoked, name)
			case strings.EqualFold(key, "errors") && member != nil:
				errors = append(errors, member)
			default:
				inner.addJSON(member)
			}
		}
		if handler == "subroute" && len(errors) > 0 {
			inner.catch()
		}
		inner.addJSON(errors)
		c.add(inner)
	}
}

// addModule adds a handler by the name of its module.
func (c *content) addModule(handler string) {
	c.ours = c.ours || slices.Contains([]string{"messenger_auth", "messenger_panel", "messenger_health", "messenger_jwks"}, handler)
	c.guards = c.guards || handler == "messenger_auth"
}

func (c *content) addHandler(handler caddyhttp.MiddlewareHandler) {
	if module, ok := handler.(caddy.Module); ok {
		c.addModule(module.CaddyModule().ID.Name())
	}
	var responses []caddyhttp.ResponseHandler
	switch handler := handler.(type) {
	case *caddyhttp.Invoke:
		c.invoked = append(c.invoked, handler.Name)
	case *caddyhttp.Subroute:
		inner := contentOf(handler.Routes)
		if handler.Errors != nil {
			inner.catch()
			inner.add(contentOf(handler.Errors.Routes))
		}
		c.add(inner)
	case *reverseproxy.Handler:
		responses = handler.HandleResponse
	case *intercept.Intercept:
		responses = handler.HandleResponse
	}
	for _, response := range responses {
		c.add(contentOf(response.Routes))
	}
}
