package session

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// closeGrace is how long a client may take to answer a close frame. Then the backend gets one instead of the client's.
	closeGrace = time.Second

	// cutAfter is when a connection is cut off if it has not ended, because one side does not read or answer.
	cutAfter = 1500 * time.Millisecond

	// abortAfter is when the client is cut off without the handler, if a backend does not notice the end.
	abortAfter = cutAfter + 250*time.Millisecond
)

// errEnded is returned to a handler that still uses an ended connection.
var errEnded = errors.New("the gateway has ended this connection")

// A Connection is one guarded connection that passes through the gateway. What the client receives is written through Write
// and Flush, and equals what the backend sent until End is called. It implements [Ender].
//
// A connection ends in steps:
//
//  1. At once, or when the current frame or event is complete, the client gets a close frame or a last event. From then on
//     the backend's bytes are dropped. This completes an event stream. A WebSocket waits for the client's answer, which is
//     passed to the backend like everything from the client.
//  2. After closeGrace the backend gets a close frame as if from the client, and an event that is still incomplete is cut.
//  3. After cutAfter both sides are cut off: the client by its deadlines, the backend by the end of the request. A side that
//     does not read, or that closed only one direction, cannot delay this.
//  4. After abortAfter the client of a stream is cut off without the handler, if that has not returned.
type Connection struct {
	cancel    context.CancelFunc // ends the request
	receiving Deadlines          // for reading the body of the request; may be nil

	endRequested atomic.Bool // End was called, and last is set
	cut          atomic.Bool // step 2 was taken
	dead         atomic.Bool // step 3 was taken

	mu       sync.Mutex // for the fields below; never held while bytes are written
	kind     Kind       // writing is held too when it is set
	finished bool
	control  Deadlines
	last     *lastSteps // nil until End is called, which most connections never see

	writing sync.Mutex // held while bytes go to the client, and for the fields below
	out     io.Writer
	flush   func() error
	frames  frames // to the client
	events  events
	silent  bool // nothing more goes to the client

	reading reading
}

// lastSteps has the state of a connection that is being ended.
type lastSteps struct {
	ending Ending
	timer  *time.Timer   // of the next step
	over   chan struct{} // closed by the last step
}

// A Kind is the kind of a connection, which only its response shows.
type Kind uint8

// The kinds of connections.
const (
	Undecided Kind = iota
	WebSocket
	EventStream
	// EncodedEvents is an encoded event stream, such as a compressed one. It ends without a last event, because the beginning of an event
	// cannot be found in it.
	EncodedEvents
	// OtherStream is a stream of another media type. It ends without a last message, between two writes, and the response must not be
	// completed: a response that is cut off must not look complete.
	OtherStream
)

// Deadlines interrupt reads from and writes to the client, as those of [net.Conn] do. If they are an [io.Closer] too, the
// client has a network connection for itself, and stopAll closes it.
type Deadlines interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// An Aborter is implemented by [Deadlines] of a response whose handler may not return, because its backend does not notice that the
// request is cancelled (FastCGI). Abort ends the client's side without the handler, as complete or not. The caller writes nothing to the
// client during the call and afterwards.
type Aborter interface{ Abort(complete bool) }

// NewConnection returns a connection whose kind is not known yet. cancel ends its request, without cutting off its response. receiving
// interrupts reads of the request's body; it may be nil without a body.
func NewConnection(cancel context.CancelFunc, receiving Deadlines) *Connection {
	return &Connection{cancel: cancel, receiving: receiving}
}

// Begin is called with the kind of the connection, after the head of the response, or the answer to the handshake of a WebSocket, was
// written. From then on the bytes for the client are written to out. flush sends what out has buffered; it may be nil.
func (c *Connection) Begin(kind Kind, out io.Writer, flush func() error, control Deadlines) {
	c.writing.Lock()
	c.mu.Lock()
	c.kind, c.control = kind, control
	c.mu.Unlock()
	c.out, c.flush = out, flush
	c.writing.Unlock()
	c.deliver()
}

// EndRequested reports whether End was called.
func (c *Connection) EndRequested() bool { return c.endRequested.Load() }

// Ended returns how the connection was ended, and false if End was not called.
func (c *Connection) Ended() (Ending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return Ending{}, false
	}
	return c.last.ending, true
}

// End ends the connection. It waits for the client no longer than cutAfter.
func (c *Connection) End(ending Ending) {
	c.mu.Lock()
	if c.finished || c.endRequested.Load() {
		c.mu.Unlock()
		return
	}
	c.last = &lastSteps{ending: ending, over: make(chan struct{})}
	c.last.timer = time.AfterFunc(closeGrace, c.stopReading)
	c.endRequested.Store(true)
	c.mu.Unlock()
	c.deliver()
}

// deliver writes the last message to the client if End was called and no goroutine is writing. A goroutine that writes calls
// it afterwards, so that it is never missed, and End does not wait for a client that does not read.
func (c *Connection) deliver() {
	if c.endRequested.Load() && c.writing.TryLock() {
		defer c.writing.Unlock()
		c.writeLastMessage()
	}
}

// writeLastMessage writes the last message to the client, if the bytes so far end a frame or an event. The caller holds writing.
func (c *Connection) writeLastMessage() {
	c.mu.Lock()
	ending, finished := c.last.ending, c.finished
	c.mu.Unlock()
	if finished || c.silent {
		return
	}
	var goodbye []byte
	switch c.kind {
	case Undecided:
		return
	case WebSocket:
		if !c.frames.boundary() {
			return
		}
		if !c.frames.closed { // otherwise the backend has closed it itself
			goodbye = CloseFrame(ending)
		}
	case EventStream:
		if !c.events.boundary() {
			return
		}
		goodbye = lastEvent(ending)
	case EncodedEvents, OtherStream:
	}
	c.silent = true
	if len(goodbye) > 0 {
		if _, err := c.out.Write(goodbye); err == nil && c.flush != nil {
			_ = c.flush() // a client that this does not reach is cut off later
		}
	}
	if c.kind != WebSocket {
		c.cancel()
	}
}

// stopReading is step 2: a WebSocket's client has not answered, or an event is still incomplete. The rest of that event is not
// written: a backend could continue it forever.
func (c *Connection) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return
	}
	c.cut.Store(true)
	switch {
	case c.kind == WebSocket:
		interrupt(c.control, Deadlines.SetReadDeadline)
	case c.kind != Undecided:
		c.cancel()
	}
	c.last.timer = time.AfterFunc(cutAfter-closeGrace, c.stopAll)
}

// stopAll is step 3. The request is cancelled, so that the proxy closes the backend's side even if neither side reads or
// writes any more, and the client is cut off.
func (c *Connection) stopAll() {
	c.mu.Lock()
	c.dead.Store(true)
	close(c.last.over)
	if c.finished {
		c.mu.Unlock()
		return
	}
	stalled := !c.writing.TryLock()
	if !stalled {
		c.writing.Unlock()
	}
	conn, isConn := c.control.(io.Closer)
	switch {
	case isConn: // closed below
	case c.kind == Undecided:
	case stalled:
		interrupt(c.control, Deadlines.SetWriteDeadline) // this resets the stream; a client that reads gets a clean end instead
	}
	if !isConn {
		interrupt(c.receiving, Deadlines.SetReadDeadline) // a request whose body is still being sent upstream does not notice that it is cancelled
	}
	c.cancel()
	if c.kind != Undecided && c.kind != WebSocket {
		c.last.timer = time.AfterFunc(abortAfter-cutAfter, c.abort)
	}
	c.mu.Unlock()
	if isConn {
		// Close while a write waits: TLS then omits its closing alert. After a failed write it would wait five seconds for it.
		_ = conn.Close()
	}
}

// abort is step 4: the handler of a stream has not returned, so that the client is cut off without it.
func (c *Connection) abort() {
	c.writing.Lock() // the handler cannot return meanwhile: Finish waits for it
	defer c.writing.Unlock()
	c.mu.Lock()
	aborter, ok := c.control.(Aborter)
	ok = ok && !c.finished
	c.mu.Unlock()
	if ok {
		c.silent = true
		aborter.Abort(c.kind == EventStream) // an encoded one that is cut off cannot be decoded to its end
	}
}

func interrupt(control Deadlines, set func(Deadlines, time.Time) error) {
	if control != nil {
		_ = set(control, LongAgo) // an error means that it is closed already, or ends by itself
	}
}

// LongAgo is a deadline that interrupts reads and writes that wait. The zero time would mean that there is none.
var LongAgo = time.Unix(1, 0)

// Release is called when the response turns out to be neither a WebSocket nor a stream. It is not ended then.
func (c *Connection) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
	if c.last != nil && c.last.timer.Stop() && !c.dead.Load() {
		close(c.last.over) // read must not wait for a step that will not be taken
	}
}

// Finish is called when the request has been served. Afterwards c does not touch the connection.
func (c *Connection) Finish() {
	c.Release()
	c.writing.Lock() // another goroutine may be writing the last message
	c.silent = true
	c.writing.Unlock()
	c.cancel()
}
