package auth

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// guard hands r on, and sees to it that the connection ends when the contact's right to it ends. It concerns WebSockets
// and event streams, and nothing else: a download that is cut off must not look complete. A WebSocket shows by its
// request; an event stream shows only by the response, whatever the request says it accepts, because a client that wants
// to stay would say anything.
//
// Where only the response can tell, guarding costs one small writer, which also makes it private. Over HTTP/2 and 3 it brings a
// request of its own along: there, nothing but its context ends one whose backend is silent without cutting off its response.
func guard(m *registry.Messenger, w http.ResponseWriter, r *http.Request, mode config.Mode, o *upstream.Outcome, next caddyhttp.Handler) error {
	if o.Guarded {
		return next.ServeHTTP(w, r)
	}
	if mode == config.ModeReport || r.Method == http.MethodHead {
		return servePrivately(w, r, next) // report ends nothing, as it refuses nothing
	}
	o.Guarded = true
	handshake, asks := upstream.IsHandshake(r), asksForEvents(r)
	g := (*guardedWriter)(nil)
	if !handshake && (asks || r.ProtoMajor > 1) {
		e := newEndableWriter(r)
		defer e.ended.cancel()
		g, r = &e.guardedWriter, &e.copy
	} else {
		g = &guardedWriter{request: r}
	}
	g.ResponseWriter, g.messenger, g.outcome, g.handshake = w, m, o, handshake
	switch {
	case handshake:
		// A copy of the request would cost more than all the rest, as long as the connection is open.
		whole := r.Context()
		ctx, cancel := context.WithCancel(whole)
		*r = *r.WithContext(ctx)
		defer func() { *r = *r.WithContext(whole) }() // for error routes
		g.cancel = cancel
		g.track()
		if r.Method == http.MethodConnect {
			r.Body = g.connection.Body(r.Body)
		}
	case asks:
		g.track()
	}
	return g.serve(r, next)
}

// deadline is when a connection that c opens now ends by itself.
func deadline(m *registry.Messenger, c *authn.Contact, now time.Time) session.Deadline {
	var d session.Deadline
	switch {
	case c.Until.IsZero():
	case c.Expires.IsZero() || c.Until.Before(c.Expires): // the key ends before the token
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

// A guardedWriter is the response of a verified request. It looks once at what the response is, and hands everything on.
type guardedWriter struct {
	privateWriter
	request    *http.Request
	messenger  *registry.Messenger
	outcome    *upstream.Outcome
	cancel     context.CancelFunc  // ends the request; nil while nothing is to end, and of an event stream over HTTP/1.1 that was not asked for
	connection *session.Connection // nil until there is one to guard
	session    *session.Session
	handshake  bool
	decided    bool
	closing    bool // the HTTP/1.1 connection closes after this response
	streaming  bool // what is written goes through connection
	hijacked   bool // it is a WebSocket over HTTP/1.1
	events     bool
}

// track makes the connection known, so that whatever is taken away from here on reaches it.
func (g *guardedWriter) track() {
	if late := g.lateContext(); late != nil {
		g.cancel = late.cancel
	}
	g.connection = session.NewConnection(g.cancel)
	g.session = registry.Connections.Add(g.subject(), deadline(g.messenger, g.outcome.Contact, time.Now()), g.connection)
}

func (g *guardedWriter) subject() session.Subject {
	c := g.outcome.Contact
	return session.Subject{Messenger: g.messenger.Name, Identity: c.Identity, TokenID: string(c.TokenID), Key: c.SignedBy.ID(),
		Issued: c.Issued, Origin: g.outcome.Origin}
}

// beginConnection makes the connection known, if it is not, and ends it before its first byte if it has lost its right since the
// token was verified.
func (g *guardedWriter) beginConnection() {
	if g.connection == nil {
		g.track()
	}
	if ending, ended := g.messenger.Ended(g.request.Context(), g.subject()); ended {
		g.session.Remove()
		g.connection.End(ending) // at once: whoever has taken it out of the tracker may still be on the way here
	}
}

// serve calls the next handler. If we ended an event stream, its response is complete: a proxy, whose work we cut short,
// says otherwise with this one panic.
func (g *guardedWriter) serve(r *http.Request, next caddyhttp.Handler) (err error) {
	defer func() {
		g.outcome.Guarded = false // an error route may guard its own response
		if g.connection == nil {
			return
		}
		g.session.Remove()
		g.connection.Finish()
		g.countEnd()
		if g.events && g.connection.Asked() {
			if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
				panic(cause)
			}
			if err = nil; g.cancel == nil && !g.closing {
				panic(http.ErrAbortHandler) // the last event was said, and this is how net/http closes the connection
			}
		}
	}()
	if err = next.ServeHTTP(g, r); err == nil {
		g.begin(http.StatusOK) // a handler that writes nothing answers so
	}
	return err
}

// countEnd counts the end of a connection that there was.
func (g *guardedWriter) countEnd() {
	if !g.streaming && !g.hijacked {
		return
	}
	reason := endedByOthers
	if ending, ours := g.connection.Ended(); ours {
		reason = ending.Reason
	}
	metrics.Process.Ended.WithLabelValues(g.messenger.Label(), reason).Inc()
}

// endedByOthers is the reason of connections that the client, the backend or Caddy has ended.
const endedByOthers = "closed"

// WriteHeader implements http.ResponseWriter.
func (g *guardedWriter) WriteHeader(status int) {
	g.begin(status)
	if g.cancel == nil && g.lateContext() == nil && beginsEvents(status, g.Header()) {
		// Its end interrupts reading from the client. net/http then takes the client for gone, and cancels every later request
		// of the connection as well: it must not carry any.
		g.closing = true
		g.Header()["Connection"] = []string{"close"}
	}
	g.ResponseWriter.WriteHeader(status)
	if status >= 200 {
		g.decide(status)
	}
}

// writeHead writes the head where the handler has left that to the first byte: only then handlers around this one have done
// with it what they do, such as to name the media type.
func (g *guardedWriter) writeHead() {
	if !g.decided {
		g.WriteHeader(http.StatusOK)
	}
}

// decide looks at the head of the response, which was written.
func (g *guardedWriter) decide(status int) {
	if g.decided {
		return
	}
	g.decided = true
	g.begin(status)
	switch header := g.Header(); {
	case beginsEvents(status, header):
		g.beginConnection()
		g.streaming, g.events = true, true
		g.connection.BeginEvents(g.ResponseWriter, g.flush, g.deadlines(), len(header["Content-Encoding"]) > 0)
	case status == http.StatusOK && g.handshake && g.request.Method == http.MethodConnect:
		g.beginConnection()
		g.streaming = true
		g.connection.BeginWebSocket(g.ResponseWriter, g.flush, g.deadlines())
	case g.connection != nil:
		g.session.Remove()
		g.connection.Release()
	}
}

// Write implements io.Writer.
func (g *guardedWriter) Write(p []byte) (int, error) {
	g.writeHead()
	if g.streaming {
		return g.connection.Write(p)
	}
	return g.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, which spares a plain response a copy.
func (g *guardedWriter) ReadFrom(from io.Reader) (int64, error) {
	g.writeHead()
	if g.streaming {
		return io.Copy(struct{ io.Writer }{g.connection}, from)
	}
	return g.ResponseWriterWrapper.ReadFrom(from)
}

// FlushError is what http.ResponseController calls.
func (g *guardedWriter) FlushError() error {
	g.writeHead()
	if g.streaming {
		return g.connection.Flush()
	}
	return g.flush()
}

// Hijack is what http.ResponseController calls. Behind it stand the frames of a WebSocket.
func (g *guardedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err != nil || !g.handshake {
		return conn, buffered, err
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	early = bytes.Clone(early)
	g.decided, g.hijacked = true, true
	g.beginConnection()
	g.connection.BeginWebSocket(conn, nil, conn)
	guarded := g.connection.Conn(conn, early)
	buffered.Writer.Reset(guarded)
	if len(early) > 0 {
		buffered.Reader.Reset(io.MultiReader(bytes.NewReader(early), guarded))
		_, _ = buffered.Reader.Peek(len(early)) // so that they count as buffered again
	} else {
		buffered.Reader.Reset(guarded)
	}
	return guarded, buffered, nil
}

// streamDeadlines interrupts a response that is not a connection of its own.
type streamDeadlines struct{ read, write *http.ResponseController }

func (s streamDeadlines) SetReadDeadline(t time.Time) error { return s.read.SetReadDeadline(t) }

func (s streamDeadlines) SetWriteDeadline(t time.Time) error { return s.write.SetWriteDeadline(t) }

// deadlines returns what interrupts g. Caddy's own writer keeps write deadlines in a field that only the goroutine that
// writes may touch, so these go past it.
func (g *guardedWriter) deadlines() session.Deadlines {
	d := streamDeadlines{http.NewResponseController(g.ResponseWriter), nil}
	d.write = d.read
	if _, idle := caddyhttp.IdleTimeoutsFromContext(g.request.Context()); idle != nil {
		d.write = idle.Ctrl
	}
	return d
}

// Interface guards
var (
	_ io.ReaderFrom                   = (*guardedWriter)(nil)
	_ http.Hijacker                   = (*guardedWriter)(nil)
	_ interface{ FlushError() error } = (*guardedWriter)(nil)
)
