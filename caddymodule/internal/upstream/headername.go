package upstream

import (
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Which names mean the same header. A backend with CGI, FastCGI or SCGI reads headers as variables: lighttpd and others write
// "_" for every character that is not a letter or digit, so that "X!Contact!Identity" becomes HTTP_X_CONTACT_IDENTITY, as our
// header does; others do so with "_" and "." (GHSA-f59h-q822-g45g, GHSA-49wc-4hcv-v58q). Names that become the same variable
// are spellings of one header here.

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

// equalFolded reports whether key, of the same length, folds to folded.
func equalFolded(folded, key string) bool {
	for i := range len(key) {
		if foldByte(key[i]) != folded[i] {
			return false
		}
	}
	return true
}

// equalsFolded is equalFolded for a key of any length.
func equalsFolded(folded, key string) bool {
	return len(key) == len(folded) && equalFolded(folded, key)
}

// ContainsFolded reports whether key is a spelling of one of the folded names in list.
func ContainsFolded(list []string, key string) bool {
	for _, name := range list {
		if equalsFolded(name, key) {
			return true
		}
	}
	return false
}

// neverForwarded are headers that are always removed, folded: Trailer because the trailers are removed, and HTTP2-Settings
// because it belongs to an upgrade that Clean removes.
var neverForwarded = []string{"http2-settings", "trailer"}

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

// Guards reports whether key is a spelling of a header that this contract sets, or that another messenger_auth sets. A header
// of the latter kind that is a source of tokens here is not guarded.
func (c *Contract) Guards(key string) bool {
	return ContainsFolded(c.Folded, key) || c.Others != nil && ContainsFolded(*c.Others, key) && !slices.Contains(c.sources, key)
}

// Removes reports whether key is a header that is removed for another reason than Guards.
func (c *Contract) Removes(key string) bool {
	if ContainsFolded(neverForwarded, key) {
		return true
	}
	for i := range c.tokens {
		token := &c.tokens[i]
		if len(token.name) == len(key) && token.name != key && equalFolded(token.folded, key) {
			return true
		}
	}
	return false
}
