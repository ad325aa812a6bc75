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

// findErrorRoutes stores the error routes of the server and of the subroutes around h in h. It returns those that contain h.
func (h *Handler) findErrorRoutes(ctx caddy.Context) (around []*caddyhttp.HTTPErrorConfig) {
	if h.server.Errors != nil && len(h.server.Errors.Routes) > 0 {
		h.errorRoutes = append(h.errorRoutes, h.server.Errors)
	}
	for _, module := range ctx.Modules() {
		s, ok := module.(*caddyhttp.Subroute)
		switch {
		case !ok || s.Errors == nil:
		case isProvisioned(s.Routes): // then h is in an error route of s, which does not handle errors of its own error routes
			around = append(around, s.Errors)
		default: // also without a route, because Caddy then continues after the subroute
			h.errorRoutes = append(h.errorRoutes, s.Errors)
		}
	}
	return around
}

// isProvisioned reports whether Caddy has provisioned all these routes.
func isProvisioned(routes caddyhttp.RouteList) bool {
	return !slices.ContainsFunc(routes, func(r caddyhttp.Route) bool { return len(r.HandlersRaw) > 0 })
}

// goesToErrorRoute reports whether an error route answers r if it fails with err, and whether an errorCleaner comes before the answer. The
// server has the routes of all its sites, some for single status codes only: if no route matches, Caddy answers with an empty body.
// Matchers see the headers of the contact only after an errorCleaner.
func (h *Handler) goesToErrorRoute(r *http.Request, err error, refused bool) (answers, cleaned bool) {
	if r.Context().Value(caddyhttp.ErrorCtxKey) != nil {
		return false, false // this handler is in an error route itself
	}
	o := upstream.OutcomeOf(r)
	if o.Hide(r) {
		defer o.Show(r)
	}
	for _, c := range slices.Backward(h.errorRoutes) {
		answers, cleaned = anyAnswers(c.Routes, c.WithError(r, err))
		o.Hide(r)
		if answers || c != h.server.Errors && !refused { // an unanswered error of a subroute continues after it: see errorCleaner
			return answers, cleaned
		}
	}
	return false, false
}

// keepErrorPrivate makes the answer to a verified request private if it is an error and no errorCleaner does so, because the answer may
// depend on the contact. The errorCleaner does it later, because a proxy in an error route adds the headers of its
// backend to those set here.
func (h *Handler) keepErrorPrivate(w http.ResponseWriter, r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	if _, cleaned := h.goesToErrorRoute(r, err, false); !cleaned {
		makePrivate(w.Header(), []string{"private"})
	}
	return err
}

// anyAnswers reports whether one of the routes matches r and has a handler that can answer it, and whether an errorCleaner comes before it.
// An errorCleaner does not answer, but restores the headers of the contact for the handlers after it.
func anyAnswers(routes caddyhttp.RouteList, r *http.Request) (answers, cleaned bool) {
	for i := range routes {
		matches, err := routes[i].MatcherSets.AnyMatchWithError(r)
		if err != nil {
			return true, cleaned // Caddy gets the same error from the matcher, and reports it
		}
		if !matches {
			continue
		}
		for _, handler := range routes[i].Handlers {
			switch handler := handler.(type) {
			case errorCleaner:
				if !handler.last {
					upstream.OutcomeOf(r).Show(r)
				}
				cleaned = true
			case *caddyhttp.Subroute:
				answers, within := anyAnswers(handler.Routes, r)
				cleaned = cleaned || within
				if answers {
					return true, cleaned
				}
			default:
				return true, cleaned
			}
		}
		if routes[i].Terminal {
			return false, cleaned // Caddy's answer is an empty body
		}
	}
	return false, cleaned
}

// cleanErrorRoutes puts an errorCleaner in front of the error routes, for two kinds of requests. Some never reached
// h, because an earlier handler failed or Caddy itself refused them. And Caddy runs these routes on its own request, while
// an earlier handler (tracing, timeouts) may have given h a copy: the original still has its trailers, and its headers if
// those were copied too.
func (h *Handler) cleanErrorRoutes(ctx caddy.Context, around []*caddyhttp.HTTPErrorConfig) error {
	for _, errors := range slices.Concat(h.errorRoutes, around) {
		for i := range errors.Routes {
			// Caddy provisions these routes after those that can fail, and appends their own handlers to what is in Handlers by then.
			route := &errors.Routes[i]
			if len(route.HandlersRaw) > 0 {
				route.Handlers = append(route.Handlers, errorCleaner{&h.headers, false})
			} else if err := h.cleanProvisioned(ctx, route); err != nil {
				return fmt.Errorf("error route %d: %w", i, err)
			}
		}
	}
	for _, errors := range h.errorRoutes { // Caddy is provisioning those around h, and would lose a list that is longer
		if errors != h.server.Errors {
			errors.Routes = append(errors.Routes, caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{errorCleaner{&h.headers, true}}})
		}
	}
	return nil
}

// fail records that the request is refused with err, so that no later handler serves it, and returns err.
func fail(o *upstream.Outcome, err error) error {
	o.Refused = true
	return err
}

// cleanProvisioned puts an errorCleaner in front of an error route that Caddy has compiled already, as is the case when h is
// in a named route. Only the routes of a subroute can still be changed then, because Caddy compiles them for each request.
// The Caddyfile adapter makes no other error routes.
func (h *Handler) cleanProvisioned(ctx caddy.Context, route *caddyhttp.Route) error {
	for _, handler := range route.Handlers {
		switch handler := handler.(type) {
		case errorCleaner:
			if handler.last || handler.headers.Own.HasAll(&h.headers.Own) {
				return nil
			}
		case *caddyhttp.Subroute:
			clean := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{errorCleaner{&h.headers, false}}}
			if err := clean.ProvisionHandlers(ctx, nil); err != nil {
				return err
			}
			handler.Routes = append(caddyhttp.RouteList{clean}, handler.Routes...)
			return nil
		case *caddyhttp.StaticResponse:
			return nil // later handlers are not reached
		default:
			return errors.New("its handlers come before those of this directive, which cannot remove headers there; put them into a subroute")
		}
	}
	return nil
}

// errorCleaner removes the headers and tokens of one messenger_auth in front of an error route. If a handler has verified the contact of the
// request, that handler serves the route. The answer to a request from which a token was removed stays private.
//
// A last errorCleaner is appended to the error routes of each subroute. If none of them answers, Caddy continues with the handlers after
// the subroute. A refused request would reach the backend there, so it fails again. A request that failed before h could have forged
// headers, so it continues without them and without a contact. routing.CheckNamedRoutes refuses named routes that are invoked from
// subroutes with errors, because h cannot find those subroutes.
type errorCleaner struct {
	headers *upstream.Contract
	last    bool
}

// ServeHTTP cleans r and calls next.
func (e errorCleaner) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	o := upstream.OutcomeOf(r)
	if err, failed := r.Context().Value(caddyhttp.ErrorCtxKey).(error); failed && e.last && o.Refused {
		return err
	}
	// If h was given a copy with headers of its own, the headers of these names that are here are still the client's.
	for key, values := range r.Header {
		if e.headers.Guards(key) && !o.Wrote(values) {
			delete(r.Header, key)
		}
	}
	_ = e.headers.Clean(r, o) // r is refused already
	if o.Answering {
		return next.ServeHTTP(w, r) // several cleaners can be on this route; the first does the rest
	}
	o.Answering = true
	defer func() { o.Answering = false }()
	if o.ErrorAnswer != nil {
		w = o.ErrorAnswer(w)
		defer beginAnswer(w)
	}
	switch {
	case o.ErrorRoute != nil && !e.last:
		return o.ErrorRoute.ServeHTTP(w, r, next)
	case o.Source != "":
		err := servePrivately(w, r, next)
		if err != nil && e.last {
			makePrivate(w.Header(), []string{"private"}) // the handlers that do so otherwise are in front of this subroute
		}
		return err
	default:
		return next.ServeHTTP(w, r)
	}
}

// Interface guard
var _ caddyhttp.MiddlewareHandler = errorCleaner{}
