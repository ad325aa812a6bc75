package auth

import (
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// streamDeadlines interrupts a response that has no net.Conn of its own.
type streamDeadlines struct {
	read, write *http.ResponseController
	writer      http.ResponseWriter
	request     *http.Request
}

// SetReadDeadline implements session.Deadlines.
func (s streamDeadlines) SetReadDeadline(t time.Time) error { return s.read.SetReadDeadline(t) }

// SetWriteDeadline implements session.Deadlines.
func (s streamDeadlines) SetWriteDeadline(t time.Time) error { return s.write.SetWriteDeadline(t) }

// deadlines returns what interrupts g. Caddy's own writer stores write deadlines in a field that only the writing goroutine
// may touch, so these bypass it.
func (g *guardedWriter) deadlines() session.Deadlines {
	d := streamDeadlines{http.NewResponseController(g.ResponseWriter), nil, g.ResponseWriter, g.request}
	d.write = d.read
	if _, idle := caddyhttp.IdleTimeoutsFromContext(g.request.Context()); idle != nil {
		d.write = idle.Ctrl
	}
	return d
}

// lastChunk completes a response over HTTP/1.1 that has no length (RFC 9112 section 7.1).
const lastChunk = "0\r\n\r\n"

// abortWait is how long writing lastChunk may take.
const abortWait = 100 * time.Millisecond

// Abort implements session.Aborter. Over HTTP/2 the client cannot be told that the response is complete.
func (s streamDeadlines) Abort(complete bool) {
	w := innermost(s.writer)
	if streamer, ok := w.(http3.HTTPStreamer); ok {
		if stream := streamer.HTTPStream(); complete {
			_ = stream.Close()
		} else {
			stream.CancelWrite(abortedByUs)
		}
		return
	}
	if s.request.ProtoMajor != 1 || !complete {
		resetConnection(w)
		_ = s.write.SetWriteDeadline(time.Unix(1, 0)) // over HTTP/2, which resets the stream
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it has ended
	}
	if s.request.ProtoAtLeast(1, 1) {
		_ = conn.SetWriteDeadline(time.Now().Add(abortWait))
		_, _ = io.WriteString(conn, lastChunk) // an error means that the client is gone
	}
	_ = conn.Close()
}

// abortedByUs is the error code H3_REQUEST_CANCELLED (RFC 9114 section 8.1).
const abortedByUs = 0x10c

// innermost returns the writer of net/http: the connection that Caddy's own writers return does not give access to the one inside.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapped.Unwrap()
	}
}

// resetConnection resets the connection of an answer over HTTP/1. In version 1.0 an orderly close means that the answer is
// complete, and an answer that was cut off must not look so. nginx, for one, speaks HTTP/1.0 to its backends by default.
func resetConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(innermost(w)).Hijack()
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

// Interface guard
var _ session.Aborter = streamDeadlines{}
