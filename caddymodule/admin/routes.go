package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// A route answers requests for one path. The name is that of the messenger in the path, or "".
type route func(s *Service, w http.ResponseWriter, r *http.Request, name string) error

// routes are the paths below AdminPath, in which {name} is a messenger. A path that is not here does not exist, and a test compares
// them with docs/openapi.yaml.
var routes = map[string]route{
	"messengers":                           func(s *Service, w http.ResponseWriter, r *http.Request, _ string) error { return s.serveList(w, r) },
	"messengers/{name}":                    (*Service).serveMessenger,
	"messengers/{name}/keys":               about("keys"),
	"messengers/{name}/readiness":          about("readiness"),
	"messengers/{name}/refresh":            about("refresh"),
	"messengers/{name}/explain":            about("explain"),
	"messengers/{name}/history":            about("history"),
	"messengers/{name}/tokens":             about("tokens"),
	"messengers/{name}/tokens/generate":    changing("generate"),
	"messengers/{name}/tokens/import":      changing("import"),
	"messengers/{name}/tokens/extend":      changing("extend"),
	"messengers/{name}/tokens/rotate":      changing("rotate"),
	"messengers/{name}/tokens/reset":       changing("reset"),
	"messengers/{name}/tokens/revoke":      changing("revoke"),
	"messengers/{name}/revocations":        (*Service).serveRevocations,
	"messengers/{name}/revocations/import": posting((*Service).serveRevokeAll),
	"export":                               posting(func(s *Service, r *http.Request, _ string) (any, error) { return s.serveExport(r) }),
	"import":                               posting(func(s *Service, r *http.Request, _ string) (any, error) { return s.serveImport(r) }),
	"connections":                          getting(func() any { return describeConnections() }),
	"connections/end":                      posting(func(s *Service, r *http.Request, _ string) (any, error) { return s.endByRequest(r) }),
	"reseal":                               posting(func(s *Service, r *http.Request, _ string) (any, error) { return s.serveReseal(r) }),
	"repair":                               posting(func(s *Service, r *http.Request, _ string) (any, error) { return s.serveRepair(r) }),
}

// about is what serveKeys answers at the end of a messenger's path.
func about(what string) route {
	return func(s *Service, w http.ResponseWriter, r *http.Request, name string) error {
		return s.serveKeys(w, r, name, what)
	}
}

// changing is a change of a messenger's shared tokens.
func changing(action string) route {
	return func(s *Service, w http.ResponseWriter, r *http.Request, name string) error {
		return s.serveTokens(w, r, name, action)
	}
}

func posting(f func(s *Service, r *http.Request, name string) (any, error)) route {
	return func(s *Service, w http.ResponseWriter, r *http.Request, name string) error {
		return answer(w, r, endpoint{http.MethodPost: func() (any, error) { return f(s, r, name) }})
	}
}

func getting(f func() any) route {
	return func(_ *Service, w http.ResponseWriter, r *http.Request, _ string) error {
		return answer(w, r, endpoint{http.MethodGet: func() (any, error) { return f(), nil }})
	}
}

var errNoPath = registry.StatusError(http.StatusNotFound, "this path is not an endpoint of the admin API")

// ServeAdmin answers a request to the admin API; commands that work offline send theirs here directly.
func (s *Service) ServeAdmin(w http.ResponseWriter, r *http.Request) error {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, AdminPath), "/")
	name := ""
	if len(parts) > 1 && parts[0] == "messengers" {
		name = parts[1]
		parts = slices.Replace(parts, 1, 2, "{name}")
	}
	serve := routes[strings.Join(parts, "/")]
	if serve == nil {
		return errNoPath
	}
	return serve(s, w, r, name)
}
