package auth

import (
	"net"
	"net/http"
)

// resetConnection resets the connection of an answer over HTTP/1.0. In that version an orderly close means that the answer is
// complete, and an answer that was cut off must not look so. nginx, for one, speaks HTTP/1.0 to its backends by default.
func resetConnection(w http.ResponseWriter) {
	for { // the connection that Caddy's own writers return does not give access to the one inside
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapped.Unwrap()
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the panic that follows closes the connection
	}
	under := conn
	for {
		wrapped, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = wrapped.NetConn() // inside TLS, whose own Close would send an orderly end first
	}
	if tcp, ok := under.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // Close sends a reset
	}
	_ = under.Close()
	_ = conn.Close()
}
