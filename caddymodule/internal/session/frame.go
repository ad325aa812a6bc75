package session

import (
	"encoding/binary"
	"math/rand/v2"
)

const (
	opcodeClose   = 0x8
	finalBit      = 0x80
	maskBit       = 0x80
	maxReason     = 123 // bytes; a control frame has at most 125, and the code takes two
	maxFrameHead  = 14
	shortestFrame = 2
)

// frames finds where frames end in one direction of a WebSocket (RFC 6455 section 5.2). It does not look at reserved bits and
// payloads: they belong to extensions.
type frames struct {
	head   [maxFrameHead]byte
	have   uint8  // bytes of the head so far
	closed bool   // a close frame has begun: no frame may follow it
	rest   uint64 // bytes of the payload still to come
}

// boundary reports whether the bytes so far end where a frame does.
func (f *frames) boundary() bool { return f.have == 0 && f.rest == 0 }

// follow reads p up to the end of the first frame in it, and returns how many bytes of p these are.
func (f *frames) follow(p []byte) int {
	n := 0
	for n < len(p) && f.rest == 0 {
		f.head[f.have] = p[n]
		f.have++
		n++
		if int(f.have) < f.headSize() {
			continue
		}
		f.rest = f.payload()
		f.closed = f.closed || f.head[0]&0x0f == opcodeClose
		f.have = 0
		if f.rest == 0 {
			return n
		}
	}
	taken := min(f.rest, uint64(len(p)-n))
	f.rest -= taken
	return n + int(taken)
}

// headSize returns the length of the head, as far as the bytes so far show it.
func (f *frames) headSize() int {
	size := shortestFrame
	if f.have < shortestFrame {
		return size
	}
	switch f.head[1] &^ maskBit {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.head[1]&maskBit != 0 {
		size += 4
	}
	return size
}

func (f *frames) payload() uint64 {
	switch size := f.head[1] &^ maskBit; size {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(size)
	}
}

// CloseFrame returns the close frame that says ending, as a server sends it.
func CloseFrame(ending Ending) []byte {
	reason := ending.Reason[:min(len(ending.Reason), maxReason)]
	frame := []byte{finalBit | opcodeClose, byte(2 + len(reason))}
	frame = binary.BigEndian.AppendUint16(frame, uint16(ending.Code))
	return append(frame, reason...)
}

// maskedCloseFrame returns the same as a client sends it. Masks prevent attackers who choose a
// payload from having proxies read it as a request; this payload is constant, so that any random mask will do.
func maskedCloseFrame(ending Ending) []byte {
	plain := CloseFrame(ending)
	key := binary.BigEndian.AppendUint32(nil, rand.Uint32())
	frame := append([]byte{plain[0], plain[1] | maskBit}, key...)
	for i, b := range plain[2:] {
		frame = append(frame, b^key[i%4])
	}
	return frame
}
