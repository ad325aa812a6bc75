package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// A socket is the client side of a WebSocket, frame by frame, over any version of HTTP. Client libraries put frames
// together and hide what stands between them.
type socket struct {
	t      testing.TB
	reader *bufio.Reader
	writer io.Writer
	close  func()
	header http.Header
}

// A wsFrame is one frame as it came.
type wsFrame struct {
	final   bool
	opcode  byte
	payload []byte
}

// closing returns the code and the reason of a close frame.
func (f wsFrame) closing() string {
	if f.opcode != 8 || len(f.payload) < 2 {
		return fmt.Sprintf("no close frame: opcode %d with %d bytes", f.opcode, len(f.payload))
	}
	return fmt.Sprintf("%d %s", binary.BigEndian.Uint16(f.payload), f.payload[2:])
}

// readFrame reads a frame with or without mask.
func readFrame(r *bufio.Reader) (wsFrame, error) {
	head := make([]byte, 2, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return wsFrame{}, err
	}
	f := wsFrame{final: head[0]&0x80 != 0, opcode: head[0] & 0x0f}
	if head[0]&0x70 != 0 || f.opcode > 10 || f.opcode > 2 && f.opcode < 8 {
		return wsFrame{}, fmt.Errorf("no frame begins with %x: something stands inside another frame", head)
	}
	size := uint64(head[1] & 0x7f)
	masked := head[1]&0x80 != 0
	if extra := map[uint64]int{126: 2, 127: 8}[size]; extra > 0 {
		length := make([]byte, 8)
		if _, err := io.ReadFull(r, length[8-extra:]); err != nil {
			return wsFrame{}, err
		}
		size = binary.BigEndian.Uint64(length)
	}
	if size > 1<<24 {
		return wsFrame{}, fmt.Errorf("a frame of %d bytes", size)
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return wsFrame{}, err
		}
	}
	f.payload = make([]byte, size)
	_, err := io.ReadFull(r, f.payload)
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return f, err
}

// frameBytes makes a frame. A client's has a mask.
func frameBytes(final bool, opcode byte, masked bool, payload []byte) []byte {
	b := []byte{opcode, 0}
	if final {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n > 0xffff:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	case n > 125:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = byte(n)
	}
	if !masked {
		return append(b, payload...)
	}
	b[1] |= 0x80
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func closePayload(code uint16, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

func (s *socket) send(opcode byte, payload string) {
	s.t.Helper()
	if _, err := s.writer.Write(frameBytes(true, opcode, true, []byte(payload))); err != nil {
		s.t.Errorf("sending: %v", err)
	}
}

func (s *socket) next() wsFrame {
	s.t.Helper()
	f, err := readFrame(s.reader)
	if err != nil {
		s.t.Fatalf("reading a frame: %v", err)
	}
	return f
}

// ended reads until the end, answers a close frame, and returns what that said.
func (s *socket) ended() string {
	s.t.Helper()
	last := "no close frame"
	for {
		f, err := readFrame(s.reader)
		switch {
		case err == io.EOF || errors.Is(err, net.ErrClosed):
			return last
		case last != "no close frame" && errors.Is(err, syscall.ECONNRESET):
			return last // the answer came too late, to a connection that was closed by then
		case err != nil:
			return last + ", then: " + err.Error()
		case f.opcode == 8:
			last = f.closing()
			// On a busy machine this can come too late; then the gateway has answered to the backend.
			_, _ = s.writer.Write(frameBytes(true, 8, true, f.payload))
		case last != "no close frame":
			return last + ", and then another frame"
		default:
			if bytes.Count(f.payload, f.payload[:1]) != len(f.payload) {
				return "a frame that is not as the backend sent it"
			}
		}
	}
}

// A protocol opens sockets over one version of HTTP.
type protocol struct {
	name string
	tls  bool
	open func(g *gateway, path string, headers ...string) (*socket, int)
}

var protocols = []protocol{
	{"HTTP/1.1", false, func(g *gateway, path string, headers ...string) (*socket, int) {
		return g.upgrade(g.dial(), path, headers)
	}},
	{"HTTP/1.1 over TLS", true, func(g *gateway, path string, headers ...string) (*socket, int) {
		return g.upgrade(tls.Client(g.dial(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}), path, headers)
	}},
	{"HTTP/2", true, func(g *gateway, path string, headers ...string) (*socket, int) {
		// the transport of net/http refuses the header :protocol
		var transport idleTransport = &http2.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:staticcheck // SA1019: see above
		return g.extendedConnect(transport, transport.CloseIdleConnections, path, headers)
	}},
	socketsOverHTTP3,
}

var socketsOverHTTP3 = protocol{"HTTP/3", true, func(g *gateway, path string, headers ...string) (*socket, int) {
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}}
	return g.extendedConnect(transport, func() { _ = transport.Close() }, path, headers)
}}

// idleTransport is a transport that keeps connections.
type idleTransport interface {
	http.RoundTripper
	CloseIdleConnections()
}

const patience = 20 * time.Second // how long a test waits for one connection

// dial connects to the site. A close frame comes behind everything that waits in buffers, and the client has a second and a half for
// that: the smaller they are, the slower a busy machine may be.
func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		g.t.Fatal(err)
	}
	return conn
}

func (g *gateway) upgrade(conn net.Conn, path string, headers []string) (*socket, int) {
	g.t.Helper()
	g.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: " + g.addr, "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}, headers...)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		g.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		g.t.Fatalf("reading the answer to the handshake: %v", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols && resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		g.t.Errorf("the handshake was answered with Sec-WebSocket-Accept: %q", resp.Header.Get("Sec-Websocket-Accept"))
	}
	return &socket{g.t, reader, conn, func() { _ = conn.Close() }, resp.Header}, resp.StatusCode
}

// extendedConnect opens a WebSocket by RFC 8441 or RFC 9220. A success counts as 101, as over HTTP/1.1.
func (g *gateway) extendedConnect(transport http.RoundTripper, done func(), path string, headers []string) (*socket, int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	body, writer := io.Pipe()
	g.t.Cleanup(func() {
		_ = writer.Close()
		cancel()
		done()
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodConnect, g.url+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	if _, ok := transport.(*http3.Transport); ok {
		r.Proto = "websocket"
	} else {
		r.Header[":protocol"] = []string{"websocket"}
	}
	r.Header.Set("Sec-WebSocket-Version", "13")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		g.t.Fatalf("opening a WebSocket: %v", err)
	}
	g.t.Cleanup(func() { _ = resp.Body.Close() })
	status := resp.StatusCode
	if status == http.StatusOK {
		status = http.StatusSwitchingProtocols
	}
	stop := func() {
		_ = writer.Close()
		_ = resp.Body.Close()
	}
	return &socket{g.t, bufio.NewReader(resp.Body), writer, stop, resp.Header}, status
}

// waitForTLS waits until the site has its certificate.
func (g *gateway) waitForTLS() {
	g.t.Helper()
	eventually(g.t, "the site has its certificate", func() bool {
		conn, err := tls.Dial("tcp", g.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}
