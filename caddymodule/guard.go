package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// guard hands r on, and sees to it that the connection ends when the contact's right to it ends. It concerns WebSockets
// and event streams, and nothing else: a download that is cut off must not look complete. A WebSocket shows by its
// request; an event stream shows only by the response, whatever the request says it accepts, because a client that wants
// to stay would say anything.
//
// Where only the response can tell, guarding costs one small writer, which also makes it private. With no expiry and
// max_session 0 only what asks for a WebSocket or an event stream is tracked, so that it can be ended by command.
func (m *Messenger) guard(w http.ResponseWriter, r *http.Request, mode Mode, o *outcome, next caddyhttp.Handler) error {
	if o.guarded {
		return next.ServeHTTP(w, r)
	}
	if mode == ModeReport || r.Method == http.MethodHead {
		return servePrivately(w, r, next) // report ends nothing, as it refuses nothing
	}
	handshake := isHandshake(r)
	asks := handshake || asksForEvents(r)
	if !asks && m.session == 0 && o.contact.Until.IsZero() {
		return servePrivately(w, r, next)
	}
	o.guarded = true
	g := &guardedWriter{messenger: m, contact: o.contact, handshake: handshake}
	g.ResponseWriter = w
	switch {
	case handshake:
		g.track(nil) // a copy of the request would cost more than all the rest
		if r.Method == http.MethodConnect {
			r.Body = g.connection.Body(r.Body)
		}
	case asks:
		ctx, cancel := context.WithCancel(r.Context())
		r = r.WithContext(ctx)
		g.track(cancel)
	}
	g.request = r
	return g.serve(r, next)
}

// asksForEvents reports whether r is what an EventSource sends.
func asksForEvents(r *http.Request) bool {
	return slices.ContainsFunc(r.Header["Accept"], func(value string) bool { return strings.Contains(value, eventStream) })
}

const eventStream = "text/event-stream"

// deadline is when a connection that c opens now ends by itself.
func (m *Messenger) deadline(c *authn.Contact, now time.Time) session.Deadline {
	var d session.Deadline
	switch {
	case c.Until.IsZero():
	case c.Expires.IsZero() || c.Until.Before(c.Expires): // the key ends before the token
		d = session.Deadline{From: c.Until, To: c.Until, Ending: session.Revoked}
	default:
		d = session.Deadline{From: c.Expires, To: c.Until, Ending: session.Expired}
	}
	if m.session > 0 {
		limit := now.Add(m.session)
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
	messenger  *Messenger
	contact    *authn.Contact
	connection *session.Connection // nil until there is one to guard
	session    *session.Session
	handshake  bool
	decided    bool
	streaming  bool // what is written goes through connection
	hijacked   bool // it is a WebSocket over HTTP/1.1
	events     bool
}

// track makes the connection known. What was withdrawn since the token was verified shows only now.
func (g *guardedWriter) track(cancel context.CancelFunc) {
	c := g.contact
	g.connection = session.NewConnection(cancel)
	g.session = connections.Add(session.Subject{
		Messenger: g.messenger.name, Identity: c.Identity, TokenID: string(c.TokenID), Key: c.SignedBy.ID(), Issued: c.Issued,
	}, g.messenger.deadline(c, time.Now()), g.connection)
	if g.messenger.withdrawn(c) {
		g.session.End(session.Revoked)
	}
}

// withdrawn reports whether what c rests on was taken back after c was verified.
func (m *Messenger) withdrawn(c *authn.Contact) bool {
	return !m.verifier.Load().Active()[c.SignedBy.ID()] || m.revoked.Covers(c.Identity, c.TokenID, c.Issued)
}

// serve calls the next handler. If we ended an event stream, its response is complete: a proxy, whose work we cut short,
// says otherwise with this one panic.
func (g *guardedWriter) serve(r *http.Request, next caddyhttp.Handler) (err error) {
	defer func() {
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
			err = nil
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
	processMetrics.ended.WithLabelValues(g.messenger.label(), reason).Inc()
}

// endedByOthers is the reason of connections that the client, the backend or Caddy has ended.
const endedByOthers = "closed"

// WriteHeader implements http.ResponseWriter.
func (g *guardedWriter) WriteHeader(status int) {
	g.begin(status)
	g.ResponseWriter.WriteHeader(status)
	if status >= 200 {
		g.decide(status)
	}
}

// decide looks at the head of the response, which was written or will be with the next byte.
func (g *guardedWriter) decide(status int) {
	if g.decided {
		return
	}
	g.decided = true
	g.begin(status)
	switch header := g.Header(); {
	case status == http.StatusOK && g.handshake && g.request.Method == http.MethodConnect:
		g.streaming = true
		g.connection.BeginWebSocket(g.ResponseWriter, g.flush, g.deadlines())
	case status == http.StatusOK && isEventStream(header) && len(header["Content-Length"]) == 0:
		if g.connection == nil {
			g.track(nil)
		}
		g.streaming, g.events = true, true
		g.connection.BeginEvents(g.ResponseWriter, g.flush, g.deadlines(), len(header["Content-Encoding"]) > 0)
	case g.connection != nil:
		g.session.Remove()
		g.connection.Release()
	}
}

func isEventStream(header http.Header) bool {
	values := header["Content-Type"]
	if len(values) == 0 || len(values[0]) < len(eventStream) {
		return false
	}
	kind, _, _ := strings.Cut(values[0], ";")
	return ascii.EqualFold(strings.Trim(kind, " \t"), eventStream)
}

// Write implements io.Writer.
func (g *guardedWriter) Write(p []byte) (int, error) {
	g.decide(http.StatusOK)
	if g.streaming {
		return g.connection.Write(p)
	}
	return g.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, which spares a plain response a copy.
func (g *guardedWriter) ReadFrom(from io.Reader) (int64, error) {
	g.decide(http.StatusOK)
	if g.streaming {
		return io.Copy(struct{ io.Writer }{g.connection}, from)
	}
	return g.ResponseWriterWrapper.ReadFrom(from)
}

// FlushError is what http.ResponseController calls.
func (g *guardedWriter) FlushError() error {
	g.decide(http.StatusOK)
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

func (s streamDeadlines) SetReadDeadline(t time.Time) error  { return s.read.SetReadDeadline(t) }
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
