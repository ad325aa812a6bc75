package panel

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
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
		parts = append(parts, fmt.Sprintf("Of %s, %d %s used in the last day.", counted(len(ring.Tokens), "shared token"), used, wasOrWere(used)))
	}
	requests := "The requests of the last day are not known"
	if d.Readiness != nil {
		requests = fmt.Sprintf("In the last day this gateway had %s with a valid token", counted(d.Readiness.LastWindow().Valid, "request"))
	}
	return strings.Join(append(parts, fmt.Sprintf("%s; it has %s of this messenger.", requests, counted(a.ConnectionsOf(d.Name).Open, "open connection"))), " ")
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
		return "Connections whose key is not in the new key set are closed when it was fetched."
	}
	return "Open connections stay open until their tokens expire; the page Revocations closes them."
}

// counted is a number of things: "1 key", "2 keys".
func counted[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func wasOrWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
