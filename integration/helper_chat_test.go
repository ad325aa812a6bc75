package integration

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A chat is a backend whose WebSockets do what their path says, and which remembers how each of them ended: /echo, /idle,
// and /stream, which sends without a pause, at once or so long after the handshake as the query says.
type chat struct {
	*upstream
	ends chan string // "4401 token_expired", or what else ended the connection

	messages sync.Map // by their text; those of /echo
}

// chatFrame is the size of the frames of /stream; a message has four of them.
const chatFrame = 150_000

// streamFrames are the frames of one message of /stream.
var streamFrames = func() (frames [4][]byte) {
	for i := range frames {
		opcode := byte(0)
		if i == 0 {
			opcode = 2
		}
		frames[i] = frameBytes(i == 3, opcode, false, bytes.Repeat([]byte{byte(i)}, chatFrame))
	}
	return frames
}()

func newChat(t testing.TB) *chat {
	c := &chat{upstream: &upstream{}, ends: make(chan string, 10_000)}
	c.listen(t, c.serveChat)
	return c
}

func (c *chat) serveChat(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		serveStreams(w, r)
		return
	}
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	w.Header()["Sec-WebSocket-Accept"] = []string{acceptFor(r.Header.Get("Sec-Websocket-Key"))}
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		c.ends <- err.Error()
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if strings.HasSuffix(r.URL.Path, "/stream") {
		after, _ := time.ParseDuration(r.URL.Query().Get("after"))
		go func() {
			time.Sleep(after)
			for i := 0; ; i++ {
				if _, err := conn.Write(streamFrames[i%len(streamFrames)]); err != nil {
					return
				}
			}
		}()
	}
	for {
		f, err := readFrame(buffered.Reader)
		switch {
		case err != nil:
			c.ends <- err.Error()
			return
		case f.opcode == 8:
			c.ends <- f.closing()
			if !strings.HasSuffix(r.URL.Path, "/stream") {
				_, _ = conn.Write(frameBytes(true, 8, false, f.payload))
			}
			return
		case strings.HasSuffix(r.URL.Path, "/echo"):
			c.messages.Store(string(f.payload), true)
			if _, err := conn.Write(frameBytes(f.final, f.opcode, false, f.payload)); err != nil {
				c.ends <- err.Error()
				return
			}
		}
	}
}

// end waits for the end of one WebSocket.
func (c *chat) end(t testing.TB) string {
	t.Helper()
	select {
	case end := <-c.ends:
		return end
	case <-time.After(patience):
		t.Fatal("the backend's connection does not end")
		return ""
	}
}
