package auth

import (
	"net"
	"net/http"
)

// resetConnection closes the connection of an answer over HTTP/1.0 in a way that does not look like the end of the answer, which the
// end of the connection is there. nginx, for one, speaks that version to what is behind it unless it is told otherwise.
func resetConnection(w http.ResponseWriter) {
	for { // Caddy's own writers return a connection that does not show what it wraps
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = wrapped.Unwrap()
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it is closed by the panic that follows
	}
	under := conn
	for {
		wrapped, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = wrapped.NetConn() // of TLS, which would say goodbye first
	}
	if tcp, ok := under.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // the other side is told that the connection is broken
	}
	_ = under.Close()
	_ = conn.Close()
}
