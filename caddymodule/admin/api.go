package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

const (
	AdminPath    = "/messenger/"
	MaxAdminBody = 64 << 10 // bytes; a token has 8 KiB at most
)

// adminAPI serves what operators ask of the running gateway. The table routes has the paths; docs/openapi.yaml says what they take
// and answer, and a test compares the two.
//
// Two rules protect operators from each other and from themselves. A client that replaces a stored messenger has to send its revision
// in If-Match, or "*", so that it does not overwrite a change that it has not seen. And a change that takes keys, key sets or shared
// tokens out of use, and does not say so by its name as reset, revoke and DELETE do, is answered with 428 and their number unless it
// confirms exactly that number.
//
// It has no state. After a failed reload Caddy's endpoint belongs to modules of the configuration that failed, so the app is
// looked up for every request.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.messenger",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: AdminPath, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	app, err := messenger.ActiveApp()
	if err != nil {
		return err
	}
	return PrintableAnswer(NewService(app).ServeAdmin(w, r))
}

// PrintableAnswer escapes an error, which Caddy's endpoint logs: it may quote a key server or a certificate.
func PrintableAnswer(err error) error {
	if answer := (caddy.APIError{}); errors.As(err, &answer) {
		answer.Err = printable.Error(answer.Err)
		return answer
	}
	return printable.Error(err)
}

// serveList lists messengers.
func (s *Service) serveList(w http.ResponseWriter, r *http.Request) error {
	return answer(w, r, endpoint{http.MethodGet: func() (any, error) {
		page, err := s.List(r.Context(), ReadListQuery(r.URL.Query()))
		if err != nil {
			return nil, err
		}
		if page.Next != "" {
			query := r.URL.Query()
			query.Set("after", page.Next)
			w.Header().Set("Link", "<"+AdminPath+"messengers?"+query.Encode()+`>; rel="next"`)
		}
		return page.Messengers, nil
	}})
}

// serveMessenger shows, changes and deletes one messenger.
func (s *Service) serveMessenger(w http.ResponseWriter, r *http.Request, name string) error {
	return answer(w, r, endpoint{
		http.MethodGet: func() (any, error) {
			d, err := s.Describe(r.Context(), name)
			if err == nil && d.Revision != "" {
				w.Header().Set("ETag", `"`+d.Revision+`"`)
			}
			return d, err
		},
		http.MethodPut: func() (any, error) {
			c, err := putConditionOf(r)
			if err != nil {
				return nil, err
			}
			if c.IsEmpty() {
				if _, err := s.StoredRecord(r.Context(), name); err == nil {
					return nil, apierror.New(http.StatusPreconditionRequired, "a stored messenger of this name exists; send its revision in If-Match to change it")
				}
				c.Absent = true // another client may create it at this moment
			}
			settings, err := readSettings(r)
			if err != nil {
				return nil, err
			}
			d, created, err := s.Put(r.Context(), name, settings, c, actorOf(r))
			if err != nil {
				return nil, err
			}
			w.Header().Set("ETag", `"`+d.Revision+`"`)
			if created {
				return withStatus{http.StatusCreated, d}, nil
			}
			return d, nil
		},
		http.MethodDelete: func() (any, error) {
			c, err := conditionOf(r)
			if err != nil {
				return nil, err
			}
			ended, err := s.Remove(r.Context(), name, c, actorOf(r))
			return EndedHere{Ended: ended}, err
		},
	})
}

// serveRing answers requests for the shared tokens of one messenger, without their text.
func (s *Service) serveRing(w http.ResponseWriter, r *http.Request, name string) error {
	return answer(w, r, endpoint{http.MethodGet: func() (any, error) {
		ring, err := s.Tokens(r.Context(), name)
		if err == nil && ring.Revision != "" {
			w.Header().Set("ETag", `"`+ring.Revision+`"`)
		}
		return ring, err
	}})
}

func (s *Service) serveKeys(_ *http.Request, m *registry.Messenger) (any, error) {
	return s.keys(m), nil
}

func serveReadiness(_ *Service, _ *http.Request, m *registry.Messenger) (any, error) {
	return m.Readiness(), nil
}

func (s *Service) serveRefresh(r *http.Request, m *registry.Messenger) (any, error) {
	var body struct {
		Distrust bool `json:"distrust"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if err := s.Refresh(r.Context(), m, body.Distrust, actorOf(r)); err != nil {
		return nil, err
	}
	return s.keys(m), nil
}

func (s *Service) serveExplain(r *http.Request, m *registry.Messenger) (any, error) {
	var body struct {
		Token string `json:"token"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if strings.TrimSpace(body.Token) == "" {
		return nil, apierror.New(http.StatusBadRequest, `the body has no token; send {"token": "…"}`)
	}
	return s.Explain(r.Context(), m, body.Token, true)
}

// serveRevocations shows, makes and undoes revocations of one messenger.
func (s *Service) serveRevocations(w http.ResponseWriter, r *http.Request, name string) error {
	with := func(change func(v revocation.Revocation) (any, error)) func() (any, error) {
		return func() (any, error) {
			var v revocation.Revocation
			if err := readJSON(r, &v); err != nil {
				return nil, err
			}
			v.DropRecorded()
			return change(v)
		}
	}
	return answer(w, r, endpoint{
		http.MethodGet: func() (any, error) { return s.Revocations(r.Context(), name) },
		http.MethodPost: with(func(v revocation.Revocation) (any, error) {
			ended, err := s.Revoke(r.Context(), name, v, actorOf(r))
			return EndedHere{ended, s.RevocationWarning(name, v)}, err
		}),
		http.MethodDelete: with(func(v revocation.Revocation) (any, error) {
			return struct{}{}, s.UndoRevocation(r.Context(), name, v, actorOf(r))
		}),
	})
}

// repair writes back what this node knows and the storage has lost.
func (s *Service) repair(ctx context.Context, _ struct{}, by registry.Actor) (registry.Repaired, error) {
	done, err := s.Repair(ctx)
	s.Audit(trail.StoreRepaired, "", by, zap.Int("messengers", done.Messengers), zap.Int("failed", len(done.Failed)), zap.Error(err))
	return done, err
}

// Interface guard
var _ caddy.AdminRouter = (*adminAPI)(nil)
