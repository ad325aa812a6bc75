package messenger

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

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
)

func init() {
	caddy.RegisterModule(new(Health))
	httpcaddyfile.RegisterDirective("messenger_health", parseHealth)
	httpcaddyfile.RegisterDirectiveOrder("messenger_health", httpcaddyfile.After, "forward_auth") // before messenger_auth
}

const (
	// healthAge is how long an answer is reused: any client may send requests, and checking costs more than answering.
	healthAge = time.Second

	// maxUnavailable is how many messengers one answer lists.
	maxUnavailable = 100
)

// Health answers with 200 if messengers can decide about tokens right now, and otherwise with 503, listing those that cannot
// and why. It is for load balancers: clients need no authentication, and the answer has no secrets, keys or addresses.
type Health struct {
	// The messengers that decide about the answer. Default: those that are configured, unless their mode is off. Stored
	// messengers that are in use are listed as well and decide about the answer only if they are named here, because
	// their owners can break them.
	Messengers []string `json:"messengers,omitempty"`

	registry *registry.Registry

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
	if err := routing.CheckNamedRoutes(ctx); err != nil {
		return fmt.Errorf("messenger_health: %w", err)
	}
	app, err := ctx.App("messenger")
	if err != nil {
		return err
	}
	h.registry = app.(*App).Registry()
	return nil
}

func (h *Health) checkSettings() error {
	for i, name := range h.Messengers {
		if err := config.CheckName(name); err != nil {
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
	return routing.ParseAnswering(h, new(Health))
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (h *Health) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	directive := d.Token()
	h.Messengers = d.RemainingArgs()
	if err := config.ParseBlock(d, "messenger_health", nil); err != nil {
		return err
	}
	if err := h.checkSettings(); err != nil {
		return config.AtToken(directive).Errf("messenger_health: %w", err)
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
		_, _ = w.Write(body) // an error means that the client is gone
	}
	return nil
}

// answer returns the current answer. It is renewed when it is older than healthAge.
func (h *Health) answer(ctx context.Context) (int, []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if age := now.Sub(h.made); h.made.IsZero() || age < 0 || age >= healthAge {
		// Without cancellation: a client that goes away must not make the store look unreadable.
		report := h.check(context.WithoutCancel(ctx))
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

	// storeLostFacts says that the storage was emptied, or restored from an old backup.
	storeLostFacts = "lost_facts"
)

// healthReport is the body of an answer.
type healthReport struct {
	Status     string        `json:"status"`          // "ok" or "unavailable"
	Store      string        `json:"store,omitempty"` // "lost_facts" if the storage has lost what this node knows
	Messengers []unavailable `json:"messengers,omitempty"`
	More       int           `json:"more,omitempty"` // how many are not listed
}

// An unavailable is a messenger that cannot decide.
type unavailable struct {
	Messenger string `json:"messenger"`
	Source    string `json:"source"`
	Reason    string `json:"reason"`
}

// check reports on the configured list of messengers, or on all messengers that are active on this node.
func (h *Health) check(ctx context.Context) *healthReport {
	report := &healthReport{Status: healthy}
	if h.registry.WentBack() > 0 {
		report.Store = storeLostFacts // what this node knows stays active, so that it still decides
	}
	add := func(name, reason string, counts bool) {
		if reason == "" {
			return
		}
		if counts {
			report.Status = unhealthy
		}
		source := registry.SourceStored
		if h.registry.Messengers[name] != nil {
			source = registry.SourceConfig
		}
		report.Messengers = append(report.Messengers, unavailable{name, source, reason})
	}
	for _, name := range h.Messengers {
		add(name, h.registry.Unavailable(ctx, name), true)
	}
	if len(h.Messengers) == 0 {
		for m := range h.registry.Active() {
			if m.Mode != config.ModeOff {
				add(m.Name, m.Unavailable(), !m.Stored)
			}
		}
	}
	slices.SortFunc(report.Messengers, func(x, y unavailable) int {
		return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Messenger, y.Messenger))
	})
	if n := len(report.Messengers); n > maxUnavailable {
		report.Messengers, report.More = report.Messengers[:maxUnavailable], n-maxUnavailable
	}
	return report
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Health)(nil)
	_ caddyhttp.MiddlewareHandler = (*Health)(nil)
	_ caddyfile.Unmarshaler       = (*Health)(nil)
)
