package messenger

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

const (
	// shutdownSpread is over what time connections are ended when the process ends, so that their clients do not reconnect in
	// the same instant.
	shutdownSpread = time.Second

	// shutdownWait is how long the process waits for the last of them.
	shutdownWait = 2 * time.Second
)

// EndAtExit ends all guarded connections when a server shuts down because the process ends. The server says when that is, and not Stop:
// Caddy stops its apps in any order, its servers wait for event streams without a limit, and they accept connections until
// shutdown_delay is over.
func (a *App) EndAtExit(server *caddyhttp.Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.servers[server] {
		return
	}
	if a.servers == nil {
		a.servers = make(map[*caddyhttp.Server]bool)
	}
	a.servers[server] = true
	server.RegisterOnShutdown(func() {
		if caddy.Exiting() {
			beginShutdown()
		}
	})
	// The server waits for event streams, and not for WebSockets over HTTP/1.1. Afterwards reverse_proxy closes those, also in the middle
	// of a message.
	server.RegisterOnStop(func(context.Context) error {
		if caddy.Exiting() {
			waitForShutdown(beginShutdown())
		}
		return nil
	})
}

// hasServers reports whether the servers of the configuration say when the process ends.
func (a *App) hasServers() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.servers) > 0
}

// endAtExit ends the connections of earlier configurations at the end of the process, in a configuration that has no messenger_auth any
// more: its servers wait for these event streams, too.
func endAtExit(ctx context.Context) {
	ticker := time.NewTicker(registry.OrphanInterval)
	defer ticker.Stop()
	for !caddy.Exiting() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	beginShutdown()
}

// beginShutdown begins to end all guarded connections of the process, and those that begin until it ends: requests may still wait for
// the answers of backends. It returns when it was called first.
var beginShutdown = sync.OnceValue(func() (began time.Time) {
	go func() {
		const steps = 20
		for left := steps; ; left = max(left-1, 1) {
			for name := range registry.Connections.Open() {
				registry.Connections.EndWhere(name, func(session.Subject) bool { return rand.IntN(left) == 0 }, session.Shutdown)
			}
			time.Sleep(shutdownSpread / steps)
		}
	}()
	return time.Now()
})

// waitForShutdown waits until all connections have ended, for a bounded time.
func waitForShutdown(began time.Time) {
	deadline := began.Add(shutdownSpread + shutdownWait)
	for registry.Connections.IsBusy() && time.Now().Before(deadline) {
		time.Sleep(shutdownSpread / 100)
	}
}
