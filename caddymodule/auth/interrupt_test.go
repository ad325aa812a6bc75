package auth

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
)

// A onePipe is a listener with one connection, whose ends have no buffers.
type onePipe struct {
	server chan net.Conn
	closed chan struct{}
}

func (l *onePipe) Accept() (net.Conn, error) {
	select {
	case conn := <-l.server:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *onePipe) Close() error {
	close(l.closed)
	return nil
}

func (*onePipe) Addr() net.Addr { return &net.UnixAddr{} }

// A client that does not read cannot delay the moment at which it is cut off, although the server still has something for it. What it
// reads afterwards is never a complete answer.
func TestAbortDoesNotWaitForTheClient(t *testing.T) {
	for _, complete := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := &onePipe{make(chan net.Conn), make(chan struct{})}
			aborted := make(chan struct{})
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c := http.NewResponseController(w)
				_ = c.Flush()
				_, _ = w.Write(make([]byte, 3000)) // net/http has them in its buffer
				streamDeadlines{c, c, w, r}.Abort(complete)
				close(aborted)
			})}
			go func() { _ = s.Serve(l) }()
			client, server := net.Pipe()
			l.server <- server
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			<-aborted // otherwise nothing in this test can go on, and it fails
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("complete=%t: the client reads %q as a whole", complete, body)
			}
			resp.Body.Close()
			client.Close()
			_ = s.Shutdown(context.Background())
		})
	}
}
