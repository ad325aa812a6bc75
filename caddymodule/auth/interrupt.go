package auth

import (
	"io"
	"net"
	"net/http"
	"reflect"
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

// Abort implements session.Aborter. Over HTTP/2 the client cannot be told that the response is complete.
// So it is cut off as well if a handler in front holds the response back until it is complete.
func (s streamDeadlines) Abort(complete bool) {
	w, buffered := innermost(s.writer)
	complete = complete && !buffered
	switch streamer, ok := w.(http3.HTTPStreamer); {
	case ok && complete:
		_ = streamer.HTTPStream().Close()
	case ok:
		streamer.HTTPStream().CancelWrite(abortedByUs)
	case s.request.ProtoMajor > 1:
		_ = s.write.SetWriteDeadline(session.LongAgo) // resets the stream
	case complete:
		completeConnection(w, s.request.ProtoAtLeast(1, 1))
	default:
		resetConnection(w)
	}
}

// abortedByUs is the error code H3_REQUEST_CANCELLED (RFC 9114 section 8.1).
const abortedByUs = 0x10c

// innermost returns the writer of net/http: the connection that Caddy's own writers return does not give access to the one inside. It
// reports whether one of those in between holds the response back.
func innermost(w http.ResponseWriter) (inside http.ResponseWriter, buffered bool) {
	for {
		if recorder, ok := w.(interface{ Buffered() bool }); ok && recorder.Buffered() {
			buffered = true
		}
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w, buffered
		}
		w = wrapped.Unwrap()
	}
}

// lastChunk completes a response over HTTP/1.1 that has no length (RFC 9112 section 7.1).
const lastChunk = "0\r\n\r\n"

// completeWait is how long it may take to write what completes a response.
const completeWait = 100 * time.Millisecond

// completeConnection completes an answer over HTTP/1 that is sent in chunks, or until the connection closes, and closes its connection.
func completeConnection(w http.ResponseWriter, chunks bool) {
	conn, err := takeOver(w, time.Now().Add(completeWait))
	if err != nil {
		return // it has ended
	}
	if chunks {
		_ = conn.SetWriteDeadline(time.Now().Add(completeWait))
		_, _ = io.WriteString(conn, lastChunk) // an error means that the client is gone, or does not read
	}
	_ = conn.Close()
}

// takeOver takes the connection of an answer over HTTP/1 from net/http, which writes what it has buffered first, until the deadline.
func takeOver(w http.ResponseWriter, deadline time.Time) (net.Conn, error) {
	w, _ = innermost(w)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(deadline) // the client may not read
	conn, _, err := control.Hijack()
	return conn, err
}

// resetConnection resets the connection of an answer over HTTP/1. In version 1.0 an orderly close means that the answer is
// complete, and an answer that was cut off must not look so. nginx, for one, speaks HTTP/1.0 to its backends by default.
func resetConnection(w http.ResponseWriter) {
	conn, err := takeOver(w, session.LongAgo)
	if err != nil {
		return // the panic that follows closes the connection
	}
	under := conn
	for inner := insideOf(under); inner != nil; inner = insideOf(under) {
		under = inner
	}
	if tcp, ok := under.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0) // Close sends a reset
	}
	_ = under.Close()
	_ = conn.Close()
}

// insideOf returns the connection that conn wraps, or nil: that inside TLS, whose own Close would send an orderly end first, that of a
// listener wrapper for the PROXY protocol, and that of Caddy's own wrappers, which embed it in types that have no name here.
func insideOf(conn net.Conn) net.Conn {
	switch conn := conn.(type) {
	case interface{ NetConn() net.Conn }:
		return conn.NetConn()
	case interface{ Raw() net.Conn }:
		return conn.Raw()
	}
	if v := reflect.Indirect(reflect.ValueOf(conn)); v.Kind() == reflect.Struct {
		if field := v.FieldByName("Conn"); field.IsValid() && field.CanInterface() {
			inner, _ := reflect.TypeAssert[net.Conn](field)
			return inner
		}
	}
	return nil
}

// Interface guard
var _ session.Aborter = streamDeadlines{}
