package upstream

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// keptOption returns the option of Connection that stays in the list, in lower case, or "" if option is another one.
func keptOption(option string) string {
	var kept string
	switch len(option) {
	case len("te"):
		kept = "te"
	case len("close"):
		kept = "close"
	case len("upgrade"):
		kept = "upgrade"
	case len("keep-alive"):
		kept = "keep-alive"
	}
	if len(option) != len(kept) {
		return ""
	}
	for i := range len(kept) {
		if option[i] != kept[i] && (kept[i] == '-' || option[i]|0x20 != kept[i]) {
			return ""
		}
	}
	return kept
}

// eachOption calls f for each option of a list that is not empty, without the blanks around it. Its cost is linear in the
// length of the list, whatever an attacker puts into it.
func eachOption(list string, f func(option string)) {
	start, end := 0, 0 // of the option, without blanks
	for i := range len(list) {
		switch c := list[i]; {
		case c == ',':
			if start < end {
				f(list[start:end])
			}
			start, end = i+1, i+1
		case c != ' ' && c != '\t':
			end = i + 1
		case start == i:
			start, end = i+1, i+1
		}
	}
	if start < end {
		f(list[start:end])
	}
}

// A named removes headers by their names in any case. An attacker can send a list of thousands of names, most of them without
// a header: these are recognised cheaply by their length and their first and last characters.
type named struct {
	header http.Header
	marked bool
	marks  [4]uint64         // a bit set of the marks of all keys
	keys   map[string]string // by the key in lower case; made for the first name that may be one
}

// mark returns a number that differs for most names: for those with another length, first or last character.
func mark(name string) uint8 {
	if name == "" {
		return 0
	}
	return uint8(len(name))*37 ^ (name[0]|0x20)*5 ^ (name[len(name)-1] | 0x20)
}

// remove deletes the header of this name, in any case.
func (n *named) remove(name string) {
	if !n.marked {
		n.marked = true
		for key := range n.header {
			m := mark(key)
			n.marks[m>>6] |= 1 << (m & 63)
		}
	}
	m := mark(name)
	if n.marks[m>>6]&(1<<(m&63)) == 0 {
		return
	}
	if n.keys == nil {
		n.keys = make(map[string]string, len(n.header))
		for key := range n.header {
			n.keys[strings.ToLower(key)] = key
		}
	}
	if key, found := n.keys[strings.ToLower(name)]; found {
		delete(n.header, key)
	}
}

// ReadRest reads what is left of the body of a request that was refused, up to a limit, if the server would close the connection before:
// because the client wants that, as some proxies do, or because more is left than Go's server reads itself. A connection that is closed
// before all was read is reset, and a client that is still sending does not get the answer (RFC 9112 section 9.6). A client that waits
// for "100 Continue" sends nothing, and one that sends slowly waits for its answer a second longer at most.
func ReadRest(w http.ResponseWriter, r *http.Request, body io.Reader, limit int64) {
	if (r.Close || limit > ReadByServer) && r.ProtoMajor == 1 && r.ContentLength != 0 && r.Header.Get("Expect") == "" {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.CopyN(io.Discard, body, limit)
	}
}

// ReadByServer is how much of a body Go's server reads if the handler has not, in bytes.
const ReadByServer = 256 << 10
