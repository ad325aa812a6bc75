package session

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A tunnel is what reverse_proxy makes of an upgraded connection, between two pipes.
type tunnel struct {
	connection      *Connection
	client, backend net.Conn // the far ends
	done            chan struct{}
}

func newTunnel(t *testing.T) *tunnel {
	client, front := net.Pipe()
	back, backend := net.Pipe()
	n := &tunnel{client: client, backend: backend, done: make(chan struct{})}
	n.connection = NewConnection(func() {}, nil)
	n.connection.Begin(WebSocket, front, nil, front)
	conn := n.connection.Conn(front, nil)
	go func() {
		defer close(n.done)
		var copies sync.WaitGroup
		ended := make(chan struct{}, 2)
		for _, pair := range [][2]io.ReadWriter{{conn, back}, {back, conn}} {
			copies.Go(func() {
				_, _ = io.Copy(struct{ io.Writer }{pair[0]}, struct{ io.Reader }{pair[1]})
				ended <- struct{}{}
			})
		}
		<-ended
		_, _ = front.Close(), back.Close()
		copies.Wait()
		n.connection.Finish()
	}()
	t.Cleanup(func() {
		_, _ = client.Close(), backend.Close()
		<-n.done
	})
	return n
}

// next reads one frame without mask from conn.
func next(t *testing.T, conn net.Conn) string {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatalf("reading a frame: %v", err)
	}
	size := int(head[1] &^ maskBit)
	if head[1]&maskBit != 0 {
		size += 4
	}
	rest := make([]byte, size)
	if _, err := io.ReadFull(conn, rest); err != nil {
		t.Fatalf("reading a frame: %v", err)
	}
	return string(append(head, rest...))
}

// A client that answers the close frame ends the connection itself; the backend sees its answer.
func TestClientAnswersTheCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		start := time.Now()
		go n.connection.End(Expired)
		if got := next(t, n.client); got != string(CloseFrame(Expired)) {
			t.Fatalf("the client got %x", got)
		}
		answer := maskedCloseFrame(Expired)
		if _, err := n.client.Write(answer); err != nil {
			t.Fatal(err)
		}
		if got := next(t, n.backend); got != string(answer) {
			t.Errorf("the backend got %x", got)
		}
		_ = n.backend.Close()
		<-n.done
		if time.Since(start) > 0 {
			t.Errorf("it took %v", time.Since(start))
		}
	})
}

// A client never answers: the backend gets a close frame instead, after closeGrace.
func TestClientNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		start := time.Now()
		go n.connection.End(Revoked)
		_ = next(t, n.client)
		if got := unmask(t, []byte(next(t, n.backend))); got != string(CloseFrame(Revoked)[2:]) {
			t.Errorf("the backend got %q", got)
		}
		if took := time.Since(start); took != closeGrace {
			t.Errorf("the backend got it after %v", took)
		}
		_ = n.backend.Close()
		<-n.done
	})
}

// A client does not read while the backend writes: only the backend gets a close frame, and both sides are cut off after 1.5 s, also
// if the backend continues to write.
func TestClientReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		go func() {
			for text := (frame{first: 0x82, size: 100}).bytes(); ; {
				if _, err := n.backend.Write(text); err != nil {
					return
				}
			}
		}()
		synctest.Wait() // the writer waits for the client
		start := time.Now()
		n.connection.End(Expired)
		if took := time.Since(start); took != 0 {
			t.Errorf("End waited %v for a client that does not read", took)
		}
		if got := unmask(t, []byte(next(t, n.backend))); got != string(CloseFrame(Expired)[2:]) {
			t.Errorf("the backend got %q", got)
		}
		<-n.done
		if took := time.Since(start); took > cutAfter {
			t.Errorf("it took %v", took)
		}
	})
}

// No write is waiting, and the client does not read: End itself waits, and no longer than cutAfter.
func TestIdleClientReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		go func() { _, _ = io.Copy(io.Discard, n.backend) }()
		start := time.Now()
		n.connection.End(Expired)
		<-n.done
		if took := time.Since(start); took > cutAfter {
			t.Errorf("it took %v", took)
		}
	})
}

// A backend that begins a frame and never completes it: no close frame can be sent, and the connection ends even so.
func TestIncompleteFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		if _, err := n.backend.Write([]byte{0x82, 100, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, n.backend) }()
		got := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(n.client)
			got <- all
		}()
		synctest.Wait()
		n.connection.End(Expired)
		<-n.done
		if all := <-got; string(all) != string([]byte{0x82, 100, 1, 2, 3}) {
			t.Errorf("the client got %x", all)
		}
	})
}

// A handshake that hangs in the backend ends too.
func TestHangingHandshakeIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cancelled := make(chan struct{})
		c := NewConnection(sync.OnceFunc(func() { close(cancelled) }), nil)
		c.End(Revoked)
		<-cancelled
		if took := time.Since(start); took != cutAfter {
			t.Errorf("it took %v", took)
		}
		c.Finish()
	})
}

// A response that is neither a WebSocket nor an event stream is not ended, not even by an end that came before it.
func TestReleasedConnectionIsNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finished := false
		c := NewConnection(func() {
			if !finished {
				t.Error("the request was cancelled")
			}
		}, nil)
		c.End(Expired)
		c.Release()
		c.End(Revoked)
		time.Sleep(time.Minute)
		finished = true
		c.Finish()
	})
}

// A backend that does not read delays its own side, and not the client's.
func TestBackendDoesNotDelayCuttingOffTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTunnel(t)
		start := time.Now()
		go n.connection.End(Revoked)
		_ = next(t, n.client)
		if _, err := n.client.Read(make([]byte, 1)); err != io.EOF || time.Since(start) != cutAfter {
			t.Errorf("the client's connection ended with %v after %v", err, time.Since(start))
		}
	})
}

// A client has closed one direction, and the backend is silent: no read and no write fails. The request is cancelled, and by that
// the proxy closes the backend's side.
func TestLastStepCancelsTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan time.Duration, 1)
		client, front := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		start := time.Now()
		c := NewConnection(sync.OnceFunc(func() { cancelled <- time.Since(start) }), nil)
		c.Begin(WebSocket, front, nil, front)
		c.End(Revoked)
		if took := <-cancelled; took != cutAfter {
			t.Errorf("it took %v", took)
		}
		if _, err := c.Write(CloseFrame(Revoked)); err == nil {
			t.Error("the backend can go on writing")
		}
		c.Finish()
	})
}

// An event that is never completed is cut. The rest of it is not written.
func TestIncompleteEventIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var client syncBuffer
		c := NewConnection(func() {}, nil)
		c.Begin(EventStream, &client, nil, nil)
		start := time.Now()
		_, _ = c.Write([]byte("data: "))
		c.End(Expired)
		for err := error(nil); err == nil; {
			if time.Since(start) > closeGrace+time.Millisecond {
				t.Fatal("the stream continues")
			}
			time.Sleep(time.Millisecond)
			_, err = c.Write([]byte("x"))
		}
		if took := time.Since(start); took < closeGrace {
			t.Errorf("it was cut after %v", took)
		}
		c.Finish()
	})
}

type syncBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

// A handler returns while one of its goroutines still reads from the client, who got a close frame and did not answer. That
// goroutine must not wait for a step that is not taken any more.
func TestReaderDoesNotOutliveTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, front := net.Pipe()
		defer client.Close()
		c := NewConnection(func() {}, nil)
		c.Begin(WebSocket, front, nil, front)
		conn := c.Conn(front, nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{conn})
		}()
		go c.End(Revoked)
		_ = next(t, client)
		time.Sleep(closeGrace + time.Millisecond)
		c.Finish()
		<-ended
	})
}
