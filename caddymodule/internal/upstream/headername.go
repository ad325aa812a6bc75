package upstream

import (
	"net/http"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Which names mean the same header. A backend with CGI, FastCGI or SCGI reads headers as variables: lighttpd and others write
// "_" for every character that is not a letter or digit, so that "X!Contact!Identity" becomes HTTP_X_CONTACT_IDENTITY, as our
// header does; others do so with "_" and "." (GHSA-f59h-q822-g45g, GHSA-49wc-4hcv-v58q). Names that become the same variable
// are spellings of one header here. All spellings of a name have its length.

// Fold returns the same text for all spellings of a header name: lower case, with one "-" for each character that is not a
// letter or digit.
func Fold(name string) string {
	folded := []byte(name)
	for i, b := range folded {
		folded[i] = foldByte(b)
	}
	return string(folded)
}

func foldByte(b byte) byte {
	if ascii.IsLetterOrDigit(b) {
		return ascii.LowerByte(b)
	}
	return '-'
}

// isSpelling reports whether key is a spelling of the folded name.
func isSpelling(key, folded string) bool {
	if len(key) != len(folded) {
		return false
	}
	for i := range len(key) {
		if foldByte(key[i]) != folded[i] {
			return false
		}
	}
	return true
}

// lengths are the lengths of some names, as a set of bits. Every header of every request is compared with every name that is
// removed: nearly always its length alone shows that it is none of them. Lengths that differ by 64 share a bit.
type lengths uint64

func (l *lengths) add(name string) { *l |= 1 << (len(name) & 63) }

// mayHave reports whether one of the names may be as long as key. If not, key is a spelling of none of them.
func (l lengths) mayHave(key string) bool { return l>>(len(key)&63)&1 != 0 }

// A NameSet is a set of header names, each in all of its spellings.
type NameSet struct {
	folded []string
	lengths
}

// NewNameSet returns the set of these names.
func NewNameSet(names ...string) (s NameSet) {
	s.Add(names...)
	return s
}

// Add adds names to s. It must not be called while others use s.
func (s *NameSet) Add(names ...string) {
	for _, name := range names {
		if !s.Has(name) {
			s.folded = append(s.folded, Fold(name))
			s.add(name)
		}
	}
}

// AddAll adds the names of other to s.
func (s *NameSet) AddAll(other *NameSet) { s.Add(other.folded...) }

// Has reports whether key is a spelling of one of the names.
func (s *NameSet) Has(key string) bool {
	if !s.mayHave(key) {
		return false
	}
	for _, name := range s.folded {
		if isSpelling(key, name) {
			return true
		}
	}
	return false
}

// HasAll reports whether s has all names of other.
func (s *NameSet) HasAll(other *NameSet) bool {
	return !slices.ContainsFunc(other.folded, func(name string) bool { return !s.Has(name) })
}

// neverForwarded are headers that are always removed: Trailer because the trailers are removed, and HTTP2-Settings because it
// belongs to an upgrade that Clean removes.
var neverForwarded = NewNameSet("HTTP2-Settings", "Trailer")

// A tokenHeader is a header that is a source of tokens. Its other spellings are removed, because the gateway does not read
// them, and a backend that reads the variable would get another token than the verified one.
type tokenHeader struct{ name, folded string }

// tokenHeaders returns the headers of sources that have several spellings. Spellings that differ in case do not count:
// net/http makes them the same.
func tokenHeaders(sources authn.Sources) []tokenHeader {
	var list []tokenHeader
	for _, source := range sources {
		name := source.Name
		switch source.Kind {
		case authn.Header:
		case authn.WebSocketProtocol:
			name = "Sec-Websocket-Protocol"
		default:
			continue
		}
		header := tokenHeader{name, Fold(name)}
		if strings.Contains(header.folded, "-") && !slices.Contains(list, header) {
			list = append(list, header)
		}
	}
	return list
}

// Guards reports whether key is a spelling of a header that this contract sets, or that another messenger_auth sets.
func (c *Contract) Guards(key string) bool { return c.Own.Has(key) || c.Others.Has(key) }

// isShared reports whether key is a header in which clients send tokens here, and that another messenger_auth sets.
func (c *Contract) isShared(key string) bool {
	return c.Others.Has(key) && !c.Own.Has(key) && slices.ContainsFunc(c.Sources, func(s authn.Source) bool { return s.Kind == authn.Header && s.Name == key })
}

// RemoveShared removes the headers from r in which clients send tokens here, and that another messenger_auth sets: Clean leaves them until
// the token has been read. They never reach a backend, which may believe what they say.
func (c *Contract) RemoveShared(r *http.Request, o *Outcome) {
	for i := range c.Sources {
		if name := c.Sources[i].Name; c.isShared(name) && !o.isSet(name) {
			delete(r.Header, name)
		}
	}
}

// removes reports whether key is a header that is removed for another reason than Guards.
func (c *Contract) removes(key string) bool {
	return neverForwarded.Has(key) || c.tokenLengths.mayHave(key) && c.isOtherSpelling(key)
}

// isOtherSpelling reports whether key is a header with tokens, in another spelling than the one that is read.
func (c *Contract) isOtherSpelling(key string) bool {
	return slices.ContainsFunc(c.tokens, func(t tokenHeader) bool { return t.name != key && isSpelling(key, t.folded) })
}

// mayRemove returns the lengths of all names that Guards or removes may find.
func (c *Contract) mayRemove() lengths {
	return c.Own.lengths | c.Others.lengths | neverForwarded.lengths | c.tokenLengths
}
