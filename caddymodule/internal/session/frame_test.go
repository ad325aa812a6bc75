package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// A frame as a test makes it. first is its first byte: final bit, reserved bits, opcode.
type frame struct {
	first  byte
	size   int
	form   int // bytes of the length: 0 for the shortest form, or 2 or 8
	masked bool
}

func (f frame) bytes() []byte {
	b := []byte{f.first, 0}
	switch {
	case f.form == 8 || f.size > 0xffff:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(f.size))
	case f.form == 2 || f.size > 125:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(f.size))
	default:
		b[1] = byte(f.size)
	}
	if f.masked {
		b[1] |= maskBit
		b = append(b, 0x88, 0x02, 0x88, 0x02) // looks like frames
	}
	for i := range f.size {
		b = append(b, byte(0x88+i%3)) // so does the payload
	}
	return b
}

// stream makes frames of a seed: fragmented messages, control frames in between, every form of length, with and without
// masks and reserved bits. It returns their bytes, and where frames end.
func stream(seed uint64, count int) (all []byte, ends map[int]bool) {
	random := rand.New(rand.NewPCG(seed, 1))
	ends = map[int]bool{0: true}
	for range count {
		f := frame{first: byte(random.IntN(256)), masked: random.IntN(2) == 0}
		if f.first&0x0f == opcodeClose {
			f.first++ // nothing may follow a close frame
		}
		switch random.IntN(8) {
		case 0:
		case 1:
			f.size, f.form = random.IntN(130), 8
		case 2:
			f.size, f.form = random.IntN(130), 2
		case 3:
			f.size = 65530 + random.IntN(12)
		case 4:
			f.size = 120 + random.IntN(10)
		default:
			f.size = random.IntN(2000)
		}
		all = append(all, f.bytes()...)
		ends[len(all)] = true
	}
	return all, ends
}

// pieces cuts b at places of a seed: from single bytes to more than one frame.
func pieces(b []byte, seed uint64) [][]byte {
	random := rand.New(rand.NewPCG(seed, 2))
	var cut [][]byte
	for len(b) > 0 {
		n := 1 + random.IntN(1<<(1+random.IntN(15)))
		n = min(n, len(b))
		cut = append(cut, b[:n])
		b = b[n:]
	}
	return cut
}

// Until it ends, a connection passes all bytes unchanged. When it ends, the client has every frame that had begun, unchanged, then
// the close frame, and nothing else, wherever the bytes were cut.
func FuzzWebSocketIsBitTransparent(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed*7+1, uint16(seed*11))
	}
	f.Add(uint64(3), uint64(3), uint16(60000))
	f.Fuzz(func(t *testing.T, shape, cuts uint64, end uint16) {
		all, ends := stream(shape, 1+int(shape%30))
		cut := pieces(all, cuts)
		var client bytes.Buffer
		c := NewConnection(func() {}, nil)
		c.Begin(WebSocket, &client, nil, nil)
		endAt := int(end) % (2 * len(cut)) // in half of the runs it does not end
		sent := 0
		for i, p := range cut {
			if i == endAt {
				c.End(Expired)
			}
			before := bytes.Clone(p)
			if n, err := c.Write(p); n != len(p) || err != nil {
				t.Fatalf("writing: %d of %d bytes, %v", n, len(p), err)
			}
			if !bytes.Equal(p, before) {
				t.Fatal("the writer's bytes were changed")
			}
			if i < endAt {
				sent += len(p)
			}
		}
		c.Finish()
		if endAt >= len(cut) {
			if !bytes.Equal(client.Bytes(), all) {
				t.Fatal("the client's bytes are not the backend's")
			}
			return
		}
		for !ends[sent] {
			sent++
		}
		want := append(bytes.Clone(all[:sent]), CloseFrame(Expired)...)
		if !bytes.Equal(client.Bytes(), want) {
			t.Fatalf("the client got %d bytes, want %d: whole frames and a close frame", client.Len(), len(want))
		}
	})
}

// The other direction: what the backend gets is what the client sent, and if the client does not answer, a close frame
// after whole frames.
func FuzzReadingIsBitTransparent(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed*5+1, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, shape, cuts uint64, cut bool) {
		all, _ := stream(shape, 1+int(shape%30))
		if shape%3 == 0 {
			all = all[:len(all)-1] // the last frame is not complete
		}
		in := &scripted{pieces: pieces(all, cuts), end: errors.New("cut off")}
		c := NewConnection(func() {}, nil)
		c.last = &lastSteps{ending: Revoked, over: make(chan struct{})}
		close(c.last.over)
		var got []byte
		for buffer := make([]byte, 1+cuts%5000); ; {
			n, err := c.read(in, buffer)
			got = append(got, buffer[:n]...)
			if err != nil {
				break
			}
			if len(in.pieces) == 0 && cut {
				c.cut.Store(true)
			}
		}
		rest, whole := bytes.CutPrefix(got, all)
		if !whole {
			t.Fatal("the backend's bytes are not the client's")
		}
		last := frames{}
		for p := all; len(p) > 0; {
			p = p[last.follow(p):]
		}
		if !cut || !last.boundary() {
			if len(rest) > 0 {
				t.Fatalf("the backend got %x after the client's bytes", rest)
			}
			return
		}
		if text := unmask(t, rest); text != string(CloseFrame(Revoked)[2:]) {
			t.Fatalf("the backend got the reason %q", text)
		}
	})
}

// unmask returns the payload of the one frame that b is.
func unmask(t *testing.T, b []byte) string {
	t.Helper()
	if len(b) < 6 || b[0] != finalBit|opcodeClose || b[1]&maskBit == 0 || len(b) != 6+int(b[1]&^maskBit) {
		t.Fatalf("%x is not one masked close frame", b)
	}
	payload := bytes.Clone(b[6:])
	for i := range payload {
		payload[i] ^= b[2+i%4]
	}
	return string(payload)
}

// scripted gives its pieces, one for each read or more, and then its error.
type scripted struct {
	pieces [][]byte
	end    error
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, s.end
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

// The largest possible length must not overflow into a boundary.
func TestLargestFrameLengthDoesNotOverflow(t *testing.T) {
	var f frames
	head := []byte{0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if n := f.follow(head); n != len(head) || f.boundary() {
		t.Fatalf("followed %d bytes, at a boundary: %t", n, f.boundary())
	}
	for range 100 {
		if n := f.follow(make([]byte, 1<<16)); n != 1<<16 || f.boundary() {
			t.Fatal("the frame is complete")
		}
	}
}

func TestCloseFrameFitsAControlFrame(t *testing.T) {
	long := Ending{4401, string(bytes.Repeat([]byte("x"), 200))}
	if frame := CloseFrame(long); len(frame) != 2+125 || frame[1] != 125 {
		t.Errorf("the frame has %d bytes, and says %d", len(frame), frame[1])
	}
}

// A backend has closed the connection itself: nothing may follow its close frame.
func TestNoSecondCloseFrame(t *testing.T) {
	var client bytes.Buffer
	c := NewConnection(func() {}, nil)
	c.Begin(WebSocket, &client, nil, nil)
	own := CloseFrame(Ending{1000, "bye"})
	_, _ = c.Write(own)
	c.End(Expired)
	_, _ = c.Write([]byte("more"))
	c.Finish()
	if !bytes.Equal(client.Bytes(), own) {
		t.Errorf("the client got %x", client.Bytes())
	}
}

// An end that comes before the handshake was answered waits for the answer.
func TestEndBeforeTheHandshakeIsAnswered(t *testing.T) {
	var client bytes.Buffer
	c := NewConnection(func() {}, nil)
	c.End(Limit)
	c.Begin(WebSocket, &client, nil, nil)
	c.Finish()
	if !bytes.Equal(client.Bytes(), CloseFrame(Limit)) {
		t.Errorf("the client got %x", client.Bytes())
	}
}

func TestNothingIsWrittenAfterFinish(t *testing.T) {
	var client bytes.Buffer
	c := NewConnection(func() {}, nil)
	c.Begin(WebSocket, &client, nil, nil)
	c.Finish()
	c.End(Expired)
	if client.Len() > 0 || c.last != nil {
		t.Errorf("the client got %x, and is being ended: %t", client.Bytes(), c.last != nil)
	}
}

var _ Deadlines = (*deadlines)(nil)

// deadlines records what was interrupted.
type deadlines struct{ read, write time.Time }

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }
