package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// A route answers requests for one path. The name is that of the messenger in the path, or "".
type route func(s *Service, w http.ResponseWriter, r *http.Request, name string) error

// routes returns the paths below AdminPath, in which {name} is a messenger. Other paths do not exist. A test compares this table with
// docs/openapi.yaml. It is made for the first request, because most programs with this module get none.
var routes = sync.OnceValue(func() map[string]route {
	all := map[string]route{
		"messengers":                           func(s *Service, w http.ResponseWriter, r *http.Request, _ string) error { return s.serveList(w, r) },
		"messengers/{name}":                    (*Service).serveMessenger,
		"messengers/{name}/keys":               about(http.MethodGet, (*Service).serveKeys),
		"messengers/{name}/readiness":          about(http.MethodGet, serveReadiness),
		"messengers/{name}/refresh":            about(http.MethodPost, (*Service).serveRefresh),
		"messengers/{name}/explain":            about(http.MethodPost, (*Service).serveExplain),
		"messengers/{name}/history":            on(http.MethodGet, func(s *Service, r *http.Request, name string) (any, error) { return s.ReadHistory(r.Context(), name) }),
		"messengers/{name}/tokens":             (*Service).serveRing,
		"messengers/{name}/revocations":        (*Service).serveRevocations,
		"messengers/{name}/revocations/import": on(http.MethodPost, (*Service).serveRevokeAll),
		"export":                               posted(MaxAdminBody, (*Service).Export),
		"import":                               posted(maxLargeBody, (*Service).Import),
		"connections":                          on(http.MethodGet, func(*Service, *http.Request, string) (any, error) { return describeConnections(), nil }),
		"connections/end":                      posted(MaxAdminBody, (*Service).endByRequest),
		"reseal":                               posted(MaxAdminBody, (*Service).Reseal),
		"repair":                               posted(MaxAdminBody, (*Service).repair),
	}
	for action := range tokenActions {
		all["messengers/{name}/tokens/"+action] = changing(action)
	}
	return all
})

// about is a route that passes the messenger to f, as it is active on this node.
func about(method string, f func(s *Service, r *http.Request, m *registry.Messenger) (any, error)) route {
	return func(s *Service, w http.ResponseWriter, r *http.Request, name string) error {
		m, err := s.LookUp(r.Context(), name)
		if err != nil {
			return err
		}
		return answer(w, r, endpoint{method: func() (any, error) { return f(s, r, m) }})
	}
}

// on is a route that supports one method.
func on(method string, f func(s *Service, r *http.Request, name string) (any, error)) route {
	return func(s *Service, w http.ResponseWriter, r *http.Request, name string) error {
		return answer(w, r, endpoint{method: func() (any, error) { return f(s, r, name) }})
	}
}

// posted is a route that hands the body of a POST, of limited size, to an operation of the service.
func posted[Q, A any](limit int64, f func(s *Service, ctx context.Context, body Q, by registry.Actor) (A, error)) route {
	return on(http.MethodPost, func(s *Service, r *http.Request, _ string) (any, error) {
		var body Q
		if err := readBody(r, limit, &body); err != nil {
			return nil, err
		}
		return f(s, r.Context(), body, actorOf(r))
	})
}

var errNoPath = apierror.New(http.StatusNotFound, "this path is not an endpoint of the admin API")

// ServeAdmin answers a request to the admin API. Commands with --offline call it directly.
func (s *Service) ServeAdmin(w http.ResponseWriter, r *http.Request) error {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, AdminPath), "/")
	name := ""
	if len(parts) > 1 && parts[0] == "messengers" {
		name = parts[1]
		parts = slices.Replace(parts, 1, 2, "{name}")
	}
	path := strings.Join(parts, "/")
	serve := routes()[path]
	if serve == nil {
		return errNoPath
	}
	if err := checkQuery(r, path); err != nil {
		return err
	}
	return serve(s, w, r, name)
}
