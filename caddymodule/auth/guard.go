package auth

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// guard calls next, and closes the connection when the contact's token or key expires or is revoked. It applies to
// WebSockets, event streams and the types of stream_types only, because a download that is cut off must not look complete. A
// WebSocket is recognised by its request, and a stream only by its response: a client could choose its Accept header to stay connected.
//
// The request gets a context that can be cancelled, which is the only way to end a request with a silent backend without cutting off its
// response. r is changed in place, and not copied, because Caddy's placeholders and error routes read r.
func (h *Handler) guard(w http.ResponseWriter, r *http.Request, d decision) error {
	o, next := d.outcome, d.next
	if o.Guarded {
		return next.ServeHTTP(w, r)
	}
	if d.mode == config.ModeReport {
		return servePrivately(w, r, next) // report closes no connections, just as it refuses no requests
	}
	o.Guarded = true
	g := new(guardedWriter)
	g.request, g.ended.Context, g.sends = r, r.Context(), r.ProtoMajor == 1 && r.ContentLength != 0
	g.ResponseWriter, g.handler, g.messenger, g.outcome, g.handshake = w, h, d.messenger, o, o.Handshake
	*r = *r.WithContext(&g.ended)
	defer g.ended.release() // error routes run afterwards; r is not changed again, because a transport may still read it
	if g.handshake || asksForEvents(r) || hasStreamType(r.Header, h.StreamTypes) {
		g.track()
	}
	if g.handshake && r.Method == http.MethodConnect {
		r.Body = g.connection.Body(r.Body)
	}
	return g.serve(r, next)
}

// deadline returns when a connection that c opens now has to be closed.
func deadline(m *registry.Messenger, c *authn.Contact, now time.Time) session.Deadline {
	var d session.Deadline
	switch {
	case c.Until.IsZero():
	case c.Expires.IsZero() || c.Until.Before(c.Expires): // the key expires before the token
		d = session.Deadline{From: c.Until, To: c.Until, Ending: session.Revoked}
	default:
		d = session.Deadline{From: c.Expires, To: c.Until, Ending: session.Expired}
	}
	if m.Session > 0 {
		limit := now.Add(m.Session)
		switch {
		case d.To.IsZero() || !limit.After(d.From):
			d = session.Deadline{From: limit, To: limit, Ending: session.Limit}
		case limit.Before(d.To):
			d.To = limit
		}
	}
	return d
}

// A guardedWriter is the response of a verified request. It recognises WebSockets and streams by the head of the response, and passes on
// everything else unchanged.
type guardedWriter struct {
	privateWriter
	handler    *Handler
	request    *http.Request
	messenger  *registry.Messenger
	outcome    *upstream.Outcome
	ended      lateContext         // of the request
	connection *session.Connection // nil until there is one to guard
	session    *session.Session
	kind       session.Kind // Undecided unless the response is written through connection
	handshake  bool
	decided    bool
	sends      bool // the request has a body over HTTP/1, which the client may send without a time limit
	hijacked   bool // the response is a WebSocket over HTTP/1.1
}

// track registers the connection, so that every revocation from here on reaches it.
func (g *guardedWriter) track() {
	var receiving session.Deadlines
	if g.request.ProtoMajor > 1 || g.sends {
		receiving = g.deadlines()
	}
	g.connection = session.NewConnection(g.ended.cancel, receiving)
	g.session = registry.Connections.Add(g.subject(), deadline(g.messenger, g.outcome.Contact, time.Now()), g.connection)
	g.outcome.Session = g.session
}

// subject returns the properties of the connection that revocations and key changes are compared with.
func (g *guardedWriter) subject() session.Subject {
	c := g.outcome.Contact
	return session.Subject{Messenger: g.messenger.Name, Identity: c.Identity, TokenID: string(c.TokenID), Key: c.SignedBy.ID(),
		Issued: c.Issued, Origin: g.outcome.Origin}
}

// beginConnection registers the connection, if track has not done so, and ends it before its first byte if its token was
// revoked after the verification. The order matters: registered first, no revocation can be missed between the two.
func (g *guardedWriter) beginConnection() {
	if g.connection == nil {
		g.track()
	}
	if ending, closing := g.session.Ending(); closing { // its end was acknowledged, and its goroutine may not have begun
		g.connection.End(ending)
	}
	ending, bound, ended := g.messenger.Ended(g.request.Context(), g.subject())
	if g.session.Bound(bound); ended {
		g.session.Remove()
		g.connection.End(ending) // here as well: the goroutine that removed it from the tracker may not have ended it yet
	} else if limit := g.outcome.MaxConnections; limit > 0 && g.session.IsBeyond(limit) {
		// Requests were sent at once, or only the response says that it is an event stream.
		g.session.Remove()
		g.connection.End(session.TooMany)
	}
}

// serve calls the next handler. If we ended an event stream, its response is complete, although a proxy that was interrupted
// panics with http.ErrAbortHandler. If we ended another stream, its response is never complete, even if the handler returns: this
// panic resets it.
func (g *guardedWriter) serve(r *http.Request, next caddyhttp.Handler) (err error) {
	defer func() {
		g.outcome.Guarded, g.outcome.Session = false, nil // an error route may guard its own response
		if g.connection == nil {
			return
		}
		g.session.Remove()
		g.connection.Finish()
		g.session.Ended()
		g.countEnd()
		g.stopReceiving()
		cuts := g.kind == session.OtherStream
		if (cuts || isEvents(g.kind)) && g.connection.EndRequested() {
			if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
				panic(cause)
			}
			if cuts && !g.request.ProtoAtLeast(1, 1) {
				resetConnection(g.ResponseWriter)
			}
			if err = nil; cuts {
				panic(http.ErrAbortHandler)
			}
		}
	}()
	if err = next.ServeHTTP(g, r); err == nil {
		g.begin(http.StatusOK) // net/http sends this status for a handler that writes nothing
	}
	return err
}

// stopReceiving interrupts reading the request body of an ended connection over HTTP/1. net/http would read up to 256 KiB of it, however
// slowly they arrive, before it answers or closes the connection. A response that is neither a WebSocket nor a stream is not ended.
func (g *guardedWriter) stopReceiving() {
	if !g.connection.EndRequested() || !g.sends || g.decided && g.kind == session.Undecided {
		return
	}
	if !g.decided {
		g.closeAfterwards() // an error route answers
	}
	_ = g.deadlines().SetReadDeadline(session.LongAgo)
}

// closeAfterwards lets the HTTP/1.1 connection close after this response. After an interrupted read net/http believes that the client is
// gone, and would cancel every later request; and what is left of this request must not be read as another one.
func (g *guardedWriter) closeAfterwards() { g.Header()["Connection"] = []string{"close"} }

// isEvents reports whether a connection of that kind is an event stream, encoded or not.
func isEvents(kind session.Kind) bool {
	return kind == session.EventStream || kind == session.EncodedEvents
}

// countEnd counts the end of the connection, if one was opened.
func (g *guardedWriter) countEnd() {
	if g.kind == session.Undecided && !g.hijacked {
		return
	}
	reason := endedByOthers
	if ending, ours := g.connection.Ended(); ours {
		reason = ending.Reason
	}
	g.messenger.CountEnd(reason)
}

// endedByOthers is the reason for connections that the client, the backend or Caddy ended.
const endedByOthers = "closed"

// WriteHeader implements http.ResponseWriter.
func (g *guardedWriter) WriteHeader(status int) {
	g.begin(status)
	if g.sends && status >= http.StatusOK && (g.streamKind(status) != session.Undecided || g.connection != nil && g.connection.EndRequested()) {
		g.closeAfterwards()
	}
	g.ResponseWriter.WriteHeader(status)
	if status >= 200 {
		g.decide(status)
	}
}

// writeHead writes the head if the handler has left that to the first byte. Only after that have the handlers around this one
// made their changes to it, such as adding the media type.
func (g *guardedWriter) writeHead() {
	if !g.decided {
		g.WriteHeader(http.StatusOK)
	}
}

// decide sets the kind of the response from its head, which has just been written.
func (g *guardedWriter) decide(status int) {
	if g.decided {
		return
	}
	g.decided = true
	g.begin(status)
	switch {
	case g.outcome.Contact == nil: // a later handler has refused the request, and this is its answer
	case status == http.StatusOK && g.handshake && g.request.Method == http.MethodConnect:
		g.kind = session.WebSocket
	default:
		g.kind = g.streamKind(status)
	}
	switch {
	case g.kind != session.Undecided:
		g.beginConnection()
		g.connection.Begin(g.kind, g.ResponseWriter, g.flush, g.deadlines())
	case g.connection != nil:
		g.session.Remove()
		g.connection.Release()
	}
}

// Write implements io.Writer.
func (g *guardedWriter) Write(p []byte) (int, error) {
	g.writeHead()
	if g.kind != session.Undecided {
		return g.connection.Write(p)
	}
	return g.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, which saves a plain response a copy.
func (g *guardedWriter) ReadFrom(from io.Reader) (int64, error) {
	g.writeHead()
	if g.kind != session.Undecided {
		return io.Copy(struct{ io.Writer }{g.connection}, from)
	}
	return g.ResponseWriterWrapper.ReadFrom(from)
}

// FlushError is called by http.ResponseController.
func (g *guardedWriter) FlushError() error {
	g.writeHead()
	if g.kind != session.Undecided {
		return g.connection.Flush()
	}
	return g.flush()
}

// errNoWebSocket is the error of a handler that wants the connection of a contact for something other than a WebSocket.
var errNoWebSocket = errors.New("messenger_auth: the connection of a contact can become a WebSocket and nothing else")

// Hijack is called by http.ResponseController. The connection that it returns carries the frames of a WebSocket, which a proxy may have
// requested although the client did not.
func (g *guardedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(g.ResponseWriter).Hijack()
	switch {
	case err != nil, g.outcome.Contact == nil: // nil if a later handler refuses the handshake
		return conn, buffered, err
	case !g.handshake && !ascii.EqualFold(g.Header().Get("Upgrade"), "websocket"):
		_ = conn.Close()
		return nil, nil, errNoWebSocket
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	early = bytes.Clone(early) // frames that the client sent together with its handshake
	g.decided, g.hijacked = true, true
	g.beginConnection()
	g.connection.Begin(session.WebSocket, conn, nil, conn)
	guarded := g.connection.Conn(conn, early)
	buffered.Writer.Reset(guarded)
	if len(early) > 0 {
		buffered.Reader.Reset(io.MultiReader(bytes.NewReader(early), guarded))
		_, _ = buffered.Reader.Peek(len(early)) // fills the buffer with the frames, so that they count as buffered
	} else {
		buffered.Reader.Reset(guarded)
	}
	return guarded, buffered, nil
}

// Interface guards
var (
	_ io.ReaderFrom                   = (*guardedWriter)(nil)
	_ http.Hijacker                   = (*guardedWriter)(nil)
	_ interface{ FlushError() error } = (*guardedWriter)(nil)
)
