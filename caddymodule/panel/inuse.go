package panel

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/diagnose"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// What is in use at a messenger, in numbers. Every page that asks before something ends says it: how many shared tokens and requests
// of the last day, and how many open connections. They are not part of what a confirmation is bound to, because they change with
// every request.

// inUse says what is in use at a messenger. ring is nil if it has no generated shared tokens.
func inUse(a *admin.Service, d *messengerStatus, ring *admin.TokenList) string {
	var parts []string
	if ring != nil && len(ring.Tokens) > 0 {
		used := 0
		for _, t := range ring.Tokens {
			if t.LastUsed != nil && registry.Now().Sub(*t.LastUsed) < 25*time.Hour { // it is known to the hour
				used++
			}
		}
		parts = append(parts, fmt.Sprintf(textTokensUsed, diagnose.Counted(len(ring.Tokens), textSharedToken), used, wasOrWere(used)))
	}
	requests := textRequestsUnknown
	if d.Readiness != nil {
		requests = fmt.Sprintf(textRequestsCounted, diagnose.Counted(d.Readiness.LastWindow().Valid, textRequest))
	}
	return strings.Join(append(parts, fmt.Sprintf(textOpenOf, requests, diagnose.Counted(a.ConnectionsOf(d.Name).Open, textOpenConnection))), " ")
}

// inUseOf is inUse for a page that has not read the ring.
func inUseOf(a *admin.Service, ctx context.Context, d *messengerStatus) (string, error) {
	var ring *admin.TokenList
	if d.Settings.UsesRing(registry.Now()) {
		var err error
		if ring, err = a.Tokens(ctx, d.Name); err != nil {
			return "", err
		}
	}
	return inUse(a, d, ring), nil
}

// connectionsAfter says what a change of settings does to open connections.
func connectionsAfter(old, next *config.Messenger) string {
	if next.JWKS != nil && (old.JWKS == nil || old.JWKS.Document() != next.JWKS.Document()) {
		return textFetchCloses
	}
	return textConnectionsStay
}
