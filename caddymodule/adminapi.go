package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

const (
	adminPath    = "/messenger/"
	maxAdminBody = 64 << 10 // bytes; a token has 8 KiB at most
)

// adminAPI serves what operators ask of the running gateway:
//
//	GET  /messenger/messengers
//	GET  /messenger/messengers/<name>/keys
//	POST /messenger/messengers/<name>/refresh  {"distrust": bool}
//	POST /messenger/messengers/<name>/explain  {"token": string}
//	GET  /messenger/connections
//	POST /messenger/connections/end  {"messenger": string, "identity": string, …}
//
// It holds nothing. After a failed reload Caddy's endpoint belongs to modules of the configuration that failed, so the
// app is looked up on every request.
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
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(a.serve)}}
}

func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	app, err := activeApp()
	if err != nil {
		return err
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, adminPath), "/")
	if parts[0] == "connections" {
		return app.serveConnections(w, r, parts)
	}
	if parts[0] != "messengers" {
		return adminError(http.StatusNotFound, "there is nothing at this path")
	}
	if len(parts) == 1 {
		return answerMethods(w, r, http.MethodGet, func() (any, error) { return app.list(), nil })
	}
	m := app.Messengers[parts[1]]
	if m == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: app.errUnknown(parts[1])}
	}
	switch strings.Join(parts[2:], "/") {
	case "keys":
		return answerMethods(w, r, http.MethodGet, func() (any, error) { return m.describeKeys(), nil })
	case "refresh":
		return answerMethods(w, r, http.MethodPost, func() (any, error) { return m.refresh(r) })
	case "explain":
		return answerMethods(w, r, http.MethodPost, func() (any, error) {
			var body struct {
				Token string `json:"token"`
			}
			if err := readJSON(r, &body); err != nil {
				return nil, err
			}
			if body.Token == "" {
				return nil, adminError(http.StatusBadRequest, `there is no token in the body; write {"token": "…"}`)
			}
			return app.explain(r.Context(), m.name, body.Token)
		})
	}
	return adminError(http.StatusNotFound, "there is nothing at this path")
}

func activeApp() (*App, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, adminError(http.StatusServiceUnavailable, "no configuration is loaded")
	}
	app, err := ctx.AppIfConfigured("messenger")
	if err != nil {
		return nil, adminError(http.StatusNotFound, "the running configuration has no messenger")
	}
	return app.(*App), nil
}

func adminError(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// answerMethods answers with what f returns, as JSON, if the method is the one that is meant.
func answerMethods(w http.ResponseWriter, r *http.Request, method string, f func() (any, error)) error {
	if r.Method != method {
		w.Header().Set("Allow", method)
		return adminError(http.StatusMethodNotAllowed, "method not allowed; use "+method)
	}
	answer, err := f()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// readJSON reads the body of r into target; an empty body leaves target as it is. It asks for the content type because a
// browser cannot send it to another origin unasked, and it refuses unknown members because a misspelled "distrust" must
// not pass for a plain refresh.
func readJSON(r *http.Request, target any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return adminError(http.StatusUnsupportedMediaType, "the body must be JSON, with Content-Type: application/json")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxAdminBody))
	if err != nil {
		return adminError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body cannot be read, or has more than %d bytes", maxAdminBody))
	}
	if len(text) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if !json.Valid(text) || decoder.Decode(target) != nil {
		return adminError(http.StatusBadRequest, "the body is not the JSON that is wanted here") // the error would quote it
	}
	return nil
}

type listedMessenger struct {
	Name   string `json:"name"`
	Method string `json:"method"`
	Mode   Mode   `json:"mode"`
}

func (a *App) list() []listedMessenger {
	list := make([]listedMessenger, 0, len(a.Messengers))
	for _, name := range a.names() {
		m := a.Messengers[name]
		list = append(list, listedMessenger{name, m.method(), m.Mode.or(ModeRequired)})
	}
	return list
}

// describedKeys tells which keys are active, and what is known about where they come from.
type describedKeys struct {
	Messenger string         `json:"messenger"`
	Method    string         `json:"method"`
	Sources   []string       `json:"sources"` // placeholders, or the URL
	Usable    bool           `json:"usable"`  // whether tokens can be verified right now
	Keys      []describedKey `json:"keys"`
	Fetched   *time.Time     `json:"fetched,omitempty"`
	Fresh     *time.Time     `json:"fresh_until,omitempty"`
	Tried     *time.Time     `json:"last_attempt,omitempty"`
	Error     string         `json:"last_error,omitempty"`
	Next      *time.Time     `json:"next_attempt,omitempty"`
	Omitted   []omittedKey   `json:"omitted,omitempty"`
}

type describedKey struct {
	KeyID     string `json:"kid,omitempty"`
	Algorithm string `json:"alg"`
	Bits      int    `json:"bits"`
	SHA256    string `json:"sha256,omitempty"` // of the public key in PKIX DER
}

type omittedKey struct {
	Index  int    `json:"index"`
	KeyID  string `json:"kid,omitempty"`
	Reason string `json:"reason"`
}

func (m *Messenger) describeKeys() *describedKeys {
	d := &describedKeys{Messenger: m.name, Method: m.method(), Sources: []string{}, Keys: []describedKey{}}
	for i := range m.keyValues() {
		d.Sources = append(d.Sources, m.keyPlace(i))
	}
	for _, key := range m.verifier.Load().Keys() {
		d.Keys = append(d.Keys, describedKey(key))
	}
	d.Usable = len(d.Keys) > 0
	if m.jwks == nil {
		return d
	}
	status := m.jwks.Status()
	d.Sources = append(d.Sources, status.URL)
	d.Fetched, d.Fresh, d.Tried, d.Next = moment(status.Fetched), moment(status.FreshUntil), moment(status.Tried), moment(status.Next)
	if status.Err != nil {
		d.Error = status.Err.Error()
	}
	for _, entry := range status.Omitted {
		d.Omitted = append(d.Omitted, omittedKey(entry))
	}
	return d
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// refresh fetches the key set of m at once.
func (m *Messenger) refresh(r *http.Request) (any, error) {
	var body struct {
		Distrust bool `json:"distrust"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if m.jwks == nil {
		return nil, adminError(http.StatusBadRequest, "messenger "+m.name+" has no key set to fetch: its method is "+m.method())
	}
	m.logger.Info("key set refresh asked for", zap.Bool("distrust", body.Distrust), zap.String("by", r.RemoteAddr))
	err := m.jwks.Refresh(r.Context(), body.Distrust)
	if body.Distrust {
		keySetChanged(m.engine) // also if nothing was fetched: the keys are dropped
	}
	if err != nil {
		kept := "the keys fetched before stay in force"
		if len(m.verifier.Load().Keys()) == 0 {
			kept = "the messenger has no keys now and answers " + string(authn.KeysUnavailable)
		}
		return nil, caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: fmt.Errorf("%w; %s", err, kept)}
	}
	return m.describeKeys(), nil
}

// Interface guard
var _ caddy.AdminRouter = (*adminAPI)(nil)
