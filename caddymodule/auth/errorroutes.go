package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// hasErrorRoutes reports whether handle_errors stands somewhere on the server.
func (h *Handler) hasErrorRoutes() bool {
	return h.server != nil && h.server.Errors != nil && len(h.server.Errors.Routes) > 0
}

// goesToErrorRoute reports whether an error route answers r if it fails with err. The routes are those of all sites of
// the server and can be for single status codes: where none is meant, Caddy answers with an empty body.
func (h *Handler) goesToErrorRoute(r *http.Request, err error) bool {
	if r.Context().Value(caddyhttp.ErrorCtxKey) != nil {
		return false // we stand in an error route ourselves
	}
	return answers(h.server.Errors.Routes, h.server.Errors.WithError(r, err))
}

func answers(routes caddyhttp.RouteList, r *http.Request) bool {
	for i := range routes {
		matches, err := routes[i].MatcherSets.AnyMatchWithError(r)
		if err != nil {
			return true // Caddy meets the same error, and says so
		}
		if !matches {
			continue
		}
		for _, handler := range routes[i].Handlers {
			switch handler := handler.(type) {
			case errorCleaner:
			case *caddyhttp.Subroute:
				if answers(handler.Routes, r) {
					return true
				}
			default:
				return true
			}
		}
	}
	return false
}

// cleanErrorRoutes puts a clean in front of the server's error routes. Requests come there that never met h, because a
// handler in front of it failed, or Caddy itself refused them; and Caddy runs these routes on its own request, of which
// a handler in front of h (tracing, timeouts) may have given h a copy: the trailers of the original are still there, and its
// headers, if those were copied too.
func (h *Handler) cleanErrorRoutes(ctx caddy.Context) error {
	if !h.hasErrorRoutes() {
		return nil
	}
	for i := range h.server.Errors.Routes {
		// Caddy provisions these routes after its primary ones and puts their own handlers behind.
		route := &h.server.Errors.Routes[i]
		if len(route.HandlersRaw) > 0 {
			route.Handlers = append(route.Handlers, errorCleaner{&h.headers})
		} else if err := h.cleanProvisioned(ctx, route); err != nil {
			return fmt.Errorf("error route %d: %w", i, err)
		}
	}
	return nil
}

// cleanProvisioned puts a clean in front of an error route that Caddy has compiled already, as it has when h is in a named
// route. The routes of a subroute are compiled for each request. The Caddyfile makes no others.
func (h *Handler) cleanProvisioned(ctx caddy.Context, route *caddyhttp.Route) error {
	for _, handler := range route.Handlers {
		switch handler := handler.(type) {
		case errorCleaner:
			if handler.covers(h.headers.Folded) {
				return nil
			}
		case *caddyhttp.Subroute:
			clean := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{errorCleaner{&h.headers}}}
			if err := clean.ProvisionHandlers(ctx, nil); err != nil {
				return err
			}
			handler.Routes = append(caddyhttp.RouteList{clean}, handler.Routes...)
			return nil
		case *caddyhttp.StaticResponse:
			return nil // what is behind it is not reached
		default:
			return errors.New("a handler in a named route cannot remove headers from it; put its handlers into a subroute")
		}
	}
	return nil
}

// errorCleaner is the clean of a messenger_auth, in front of an error route. The answer to a request from which a token was
// taken out stays private there as well.
type errorCleaner struct{ headers *upstream.Contract }

// covers reports whether e removes all headers that are given, folded.
func (e errorCleaner) covers(folded []string) bool {
	return !slices.ContainsFunc(folded, func(name string) bool { return !slices.Contains(e.headers.Folded, name) })
}

func (e errorCleaner) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	o := upstream.OutcomeOf(r)
	// Where h was given a copy with headers of its own, what has the names that h has set is still the client's here.
	for key, values := range r.Header {
		if e.headers.Guards(key) && !o.Wrote(values) {
			delete(r.Header, key)
		}
	}
	_ = e.headers.Clean(r, o) // r is refused already
	if o.Source != "" && !o.ErrorPrivate {
		o.ErrorPrivate = true // there can be more of us on this way
		return servePrivately(w, r, next)
	}
	return next.ServeHTTP(w, r)
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = errorCleaner{}
