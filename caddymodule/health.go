package caddymodule

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

func init() {
	caddy.RegisterModule(new(Health))
	httpcaddyfile.RegisterDirective("messenger_health", parseHealth)
	httpcaddyfile.RegisterDirectiveOrder("messenger_health", httpcaddyfile.After, "forward_auth") // in front of messenger_auth
}

const (
	// healthAge is how long one answer serves: anybody may ask, and looking costs more than answering.
	healthAge = time.Second

	// maxUnable is how many messengers one answer names.
	maxUnable = 100
)

// Why a messenger cannot decide. The list is closed, because strangers read it.
const (
	reasonNotFetched = "key_set_not_fetched" // the key server has not answered yet
	reasonTooOld     = "key_set_too_old"     // it has not answered for longer than stale_if_error
	reasonNoToken    = "no_shared_token"     // none was generated yet, or the last one has ended
	reasonStore      = "store_unreadable"
	reasonUnknown    = "messenger_unknown" // it is named, and neither configured nor stored
)

// Health answers 200 if messengers can decide about tokens right now, and otherwise 503, with those that cannot and why.
// It is for load balancers: it asks nobody who they are, and tells no secret, no key and no address.
type Health struct {
	// The messengers that decide about the answer. Default: those that are configured, unless their mode is off. Stored
	// messengers that are in use are listed as well and decide about the answer only if they are named here, because
	// their owners can break them.
	Messengers []string `json:"messengers,omitempty"`

	app *registry

	mu     sync.Mutex
	made   time.Time
	status int
	body   []byte
}

// CaddyModule returns the Caddy module information.
func (*Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.messenger_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// Provision finds the messengers.
func (h *Health) Provision(ctx caddy.Context) error {
	if err := h.checkSettings(); err != nil {
		return fmt.Errorf("messenger_health: %w", err)
	}
	if err := checkNamedRoutes(ctx); err != nil {
		return fmt.Errorf("messenger_health: %w", err)
	}
	app, err := ctx.App("messenger")
	if err != nil {
		return err
	}
	h.app = app.(*App).Registry()
	return nil
}

func (h *Health) checkSettings() error {
	for i, name := range h.Messengers {
		if err := checkMessengerName(name); err != nil {
			return fmt.Errorf("messenger %q: the name %w", name, err)
		}
		if slices.Contains(h.Messengers[:i], name) {
			return fmt.Errorf("messenger %s is named twice; remove one", name)
		}
	}
	return nil
}

// parseHealth reads the directive:
//
//	messenger_health [<matcher>] [<messenger>…]
func parseHealth(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	return parseAnswering(h, new(Health))
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (h *Health) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	place := d.Token()
	h.Messengers = d.RemainingArgs()
	if err := parseBlock(d, "messenger_health", nil); err != nil {
		return err
	}
	if err := h.checkSettings(); err != nil {
		return at(place).Errf("messenger_health: %w", err)
	}
	return nil
}

// ServeHTTP answers every request itself.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	status, body := h.answer(r.Context())
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // whoever does not read it has gone
	}
	return nil
}

// answer returns the answer of this second.
func (h *Health) answer(ctx context.Context) (int, []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if age := now.Sub(h.made); h.made.IsZero() || age < 0 || age >= healthAge {
		// A client that goes away must not make it look as if the store could not be read.
		report := h.look(context.WithoutCancel(ctx))
		h.status = http.StatusOK
		if report.Status != healthy {
			h.status = http.StatusServiceUnavailable
		}
		h.body, _ = json.Marshal(report) // these are strings and numbers
		h.body = append(h.body, '\n')
		h.made = now
	}
	return h.status, h.body
}

const (
	healthy   = "ok"
	unhealthy = "unavailable"
)

// healthReport is the body of an answer.
type healthReport struct {
	Status     string   `json:"status"` // "ok" or "unavailable"
	Messengers []unable `json:"messengers,omitempty"`
	More       int      `json:"more,omitempty"` // that are not listed
}

// An unable is a messenger that cannot decide.
type unable struct {
	Messenger string `json:"messenger"`
	Source    string `json:"source"`
	Reason    string `json:"reason"`
}

// look asks every messenger that counts, and then the stored ones that this node holds.
func (h *Health) look(ctx context.Context) *healthReport {
	report := &healthReport{Status: healthy}
	add := func(name, reason string, counts bool) {
		if reason == "" {
			return
		}
		if counts {
			report.Status = unhealthy
		}
		source := sourceStored
		if h.app.Messengers[name] != nil {
			source = sourceConfig
		}
		report.Messengers = append(report.Messengers, unable{name, source, reason})
	}
	for _, name := range h.Messengers {
		add(name, h.app.unable(ctx, name), true)
	}
	if len(h.Messengers) == 0 {
		for m := range h.app.inForce() {
			if m.Mode != ModeOff {
				add(m.name, m.unable(), !m.stored)
			}
		}
	}
	slices.SortFunc(report.Messengers, func(x, y unable) int {
		return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Messenger, y.Messenger))
	})
	if n := len(report.Messengers); n > maxUnable {
		report.Messengers, report.More = report.Messengers[:maxUnable], n-maxUnable
	}
	return report
}

// unable says why the messenger of that name cannot decide, or "".
func (a *registry) unable(ctx context.Context, name string) string {
	m, rej := a.messenger(ctx, name)
	switch {
	case rej == nil:
		return m.unable()
	case rej.Code == authn.MessengerUnknown:
		return reasonUnknown
	}
	return reasonStore
}

// unable says why m cannot decide right now, or "".
func (m *messenger) unable() string {
	switch {
	case m.revoked.Unknown():
		return reasonStore
	case m.verifier.Load().Standing().Keys > 0:
		return ""
	case m.jwks == nil:
		return reasonNoToken
	case m.jwks.Status().Fetched.IsZero():
		return reasonNotFetched
	}
	return reasonTooOld
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
	_ caddyfile.Unmarshaler       = (*Health)(nil)
)
