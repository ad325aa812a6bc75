package registry

import (
	"context"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Why a messenger cannot decide. The list is closed, because clients can read it; docs/monitoring.md has it.
const (
	reasonNotFetched = "key_set_not_fetched" // the key server has not answered yet
	reasonTooOld     = "key_set_too_old"     // it has not answered for longer than stale_if_error
	reasonNoToken    = "no_shared_token"     // none was generated yet, or the last one has expired
	reasonStore      = "store_unreadable"
	reasonUnknown    = "messenger_unknown" // a name that is neither configured nor stored
)

// Unavailable returns why the messenger of that name cannot decide, or "".
func (reg *Registry) Unavailable(ctx context.Context, name string) string {
	m, rej := reg.Find(ctx, name)
	switch {
	case rej == nil:
		return m.Unavailable()
	case rej.Code == authn.MessengerUnknown:
		return reasonUnknown
	}
	return reasonStore
}

// Unavailable returns why m cannot decide right now, or "".
func (m *Messenger) Unavailable() string {
	switch {
	case m.revoked.Unknown():
		return reasonStore
	case m.Verifier.Load().Summary().Keys > 0:
		return ""
	case m.KeySet == nil:
		return reasonNoToken
	case m.KeySet.Status().Fetched.IsZero():
		return reasonNotFetched
	}
	return reasonTooOld
}
