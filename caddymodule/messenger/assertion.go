package messenger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/assertion"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
)

func init() {
	caddy.RegisterModule(new(KeySet))
	httpcaddyfile.RegisterDirective("messenger_jwks", parseKeySet)
	httpcaddyfile.RegisterDirectiveOrder("messenger_jwks", httpcaddyfile.After, "forward_auth") // before messenger_auth
}

const (
	// refreshInterval is how often the keys of other nodes are read. A key is published for an hour before it signs.
	refreshInterval = time.Minute

	// firstInterval is the same while keys are new.
	firstInterval = 2 * time.Second

	// maxFirst is how long a start waits for the keys.
	maxFirst = 5 * time.Second

	// setAge is how long backends may use the set without asking again, in seconds.
	setAge = 600
)

var errNoIssuer = errors.New("assertion needs assertion_issuer in the global option messenger { … }, such as https://chat.example.com")

// UseAssertion is called by a handler that sends assertions. It returns their issuer, and nil keys if there cannot be any. It only
// reads, because caddy validate calls it as well.
func (a *App) UseAssertion(alg string) (issuer string, keys *assertion.Keys, err error) {
	if a.issuer == "" {
		return "", nil, errNoIssuer
	}
	keys = a.registry.Store.Assertions
	if err := keys.CheckStore(); err != nil {
		a.registry.AuditWarning("no assertion is sent to the backend, because the key that signs it cannot be stored", zap.Error(err))
		return "", nil, nil
	}
	a.mu.Lock()
	first := len(a.algs) == 0
	if !slices.Contains(a.algs, alg) {
		a.algs = append(a.algs, alg)
	}
	a.mu.Unlock()
	if first {
		a.refreshAssertions(context.Background())
	}
	return a.issuer, keys, nil
}

// startAssertions makes the keys that are missing, and keeps them up to date until ctx ends.
func (a *App) startAssertions(ctx context.Context) {
	a.mu.Lock()
	algs := slices.Clone(a.algs)
	a.mu.Unlock()
	if len(algs) == 0 {
		return
	}
	a.refreshAssertions(ctx, algs...)
	keys := a.registry.Store.Assertions
	go func() {
		for {
			interval := refreshInterval
			if keys.IsYoung() {
				interval = firstInterval
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(interval):
			}
			a.refreshAssertions(ctx, algs...)
		}
	}()
}

func (a *App) refreshAssertions(ctx context.Context, algs ...string) {
	limited, cancel := context.WithTimeout(ctx, maxFirst)
	defer cancel()
	if err := a.registry.Store.Assertions.Refresh(limited, algs...); err != nil && ctx.Err() == nil {
		a.registry.Logger.Warn("keys of assertions cannot be read or made; those that are known are used", zap.Error(err))
	}
}

// KeySet serves the public keys with which backends verify the assertions of messenger_auth, as a JWK Set.
type KeySet struct {
	registry *registry.Registry
}

// CaddyModule returns the Caddy module information.
func (*KeySet) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.messenger_jwks",
		New: func() caddy.Module { return new(KeySet) },
	}
}

// Provision finds the store.
func (s *KeySet) Provision(ctx caddy.Context) error {
	if err := routing.CheckNamedRoutes(ctx); err != nil {
		return fmt.Errorf("messenger_jwks: %w", err)
	}
	app, err := ctx.App("messenger")
	if err != nil {
		return err
	}
	s.registry = app.(*App).Registry()
	return nil
}

// parseKeySet reads the directive:
//
//	messenger_jwks [<matcher>]
func parseKeySet(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	return routing.ParseAnswering(h, new(KeySet))
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (s *KeySet) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	if d.CountRemainingArgs() > 0 {
		return d.Err("messenger_jwks takes only a matcher, such as /.well-known/jwks.json")
	}
	return config.ParseBlock(d, "messenger_jwks", nil)
}

// ServeHTTP answers every request itself.
func (s *KeySet) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	set := s.registry.Store.Assertions.Set()
	if set == nil {
		header.Set("Cache-Control", "no-store")
		header.Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}
	sum := sha256.Sum256(set)
	header.Set("Content-Type", "application/jwk-set+json")
	header.Set("Cache-Control", "public, max-age="+strconv.Itoa(setAge))
	header.Set("Etag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set))
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*KeySet)(nil)
	_ caddyhttp.MiddlewareHandler = (*KeySet)(nil)
	_ caddyfile.Unmarshaler       = (*KeySet)(nil)
)
