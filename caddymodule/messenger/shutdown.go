package messenger

import (
	"math/rand/v2"
	"time"

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

// endForShutdown ends all guarded connections because the process ends, and waits until they are closed, for a bounded time.
// Without it, a WebSocket that reverse_proxy keeps open for stream_close_delay would end in the middle of a message.
func endForShutdown() {
	const steps = 20
	for left := steps; left > 0 && len(registry.Connections.Open()) > 0; left-- {
		for name := range registry.Connections.Open() {
			registry.Connections.EndWhere(name, func(session.Subject) bool { return rand.IntN(left) == 0 }, session.Shutdown)
		}
		if left > 1 {
			time.Sleep(shutdownSpread / steps)
		}
	}
	for deadline := time.Now().Add(shutdownWait); len(registry.Connections.Open()) > 0 && time.Now().Before(deadline); {
		time.Sleep(shutdownSpread / 100)
	}
}
