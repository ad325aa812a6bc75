package session

import (
	"io"
	"net"
)

// reading is the direction from the client of a WebSocket. Only the goroutine that reads uses it.
type reading struct {
	frames   frames
	finished bool
	goodbye  *[]byte // the close frame that the backend still gets; nil without one
}

// read reads the bytes from the client for the backend. If the client has not answered its close frame in time, the backend gets a close
// frame as if from the client. If the backend does not end the connection then, step 3 does.
func (c *Connection) read(from io.Reader, p []byte) (int, error) {
	r := &c.reading
	if !r.finished {
		n, err := 0, error(nil)
		if !c.cut.Load() {
			n, err = from.Read(p)
			r.follow(p[:n])
		}
		if n > 0 || !c.cut.Load() {
			return n, err
		}
		c.finishReading()
	}
	if r.goodbye != nil && len(*r.goodbye) > 0 {
		n := copy(p, *r.goodbye)
		*r.goodbye = (*r.goodbye)[n:]
		return n, nil
	}
	<-c.last.over // without mu: last was set before cut, and does not change
	return 0, errEnded
}

func (r *reading) follow(p []byte) {
	for len(p) > 0 {
		p = p[r.frames.follow(p):]
	}
}

func (c *Connection) finishReading() {
	c.reading.finished = true
	if c.reading.frames.boundary() && !c.reading.frames.closed {
		goodbye := maskedCloseFrame(c.last.ending)
		c.reading.goodbye = &goodbye
	}
}

// Conn returns conn whose reads and writes go through c; Begin must have been called with it. early has the bytes
// that were read from conn together with the handshake.
func (c *Connection) Conn(conn net.Conn, early []byte) net.Conn {
	c.reading.follow(early)
	return &guardedConn{conn, c}
}

type guardedConn struct {
	net.Conn
	connection *Connection
}

func (g *guardedConn) Read(p []byte) (int, error)  { return g.connection.read(g.Conn, p) }
func (g *guardedConn) Write(p []byte) (int, error) { return g.connection.Write(p) }

// CloseWrite passes on that the backend sends nothing more.
func (g *guardedConn) CloseWrite() error {
	if half, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}

// Body returns the body of a request that carries a WebSocket, whose reads go through c.
func (c *Connection) Body(body io.ReadCloser) io.ReadCloser { return &guardedBody{body, c} }

type guardedBody struct {
	io.ReadCloser
	connection *Connection
}

func (g *guardedBody) Read(p []byte) (int, error) { return g.connection.read(g.ReadCloser, p) }

// AwaitClose reads until the client of a WebSocket has sent its close frame, or has gone.
func AwaitClose(from io.Reader) {
	var r reading
	for p := make([]byte, 1024); ; {
		n, err := from.Read(p)
		r.follow(p[:n])
		if err != nil || r.frames.closed && r.frames.boundary() {
			return
		}
	}
}
