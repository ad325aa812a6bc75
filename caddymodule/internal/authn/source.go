package authn

import (
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A SourceKind is a place of a request in which a token may travel.
type SourceKind string

// The token sources.
const (
	Header            SourceKind = "header"
	Cookie            SourceKind = "cookie"
	Query             SourceKind = "query"
	WebSocketProtocol SourceKind = "websocket_protocol"
	Ticket            SourceKind = "ticket" // a query parameter with a ticket in place of a token
)

// A Source is one place of a request in which a token may travel.
type Source struct {
	Kind SourceKind

	// Name is the header in canonical form, the cookie, the query parameter, or the WebSocket subprotocol after which the token
	// follows. With Prefix it is what the subprotocol with the token begins with.
	Name string

	// Prefix reports whether the token follows Name in the same subprotocol. With Encoded it is in base64url, as Kubernetes, Jupyter
	// and Phoenix send it. For subprotocols only.
	Prefix, Encoded bool

	// Scheme is the authentication scheme before the token, for headers only. Without one the whole value is the token.
	Scheme string
}

// Sources are the parts of a request that may have a token. Text elsewhere in a request is not a token.
type Sources []Source

// Remove removes the content of all sources from r. It changes r in place, because other handlers may have kept pointers to the URL,
// and neither they nor a backend and its logs may see a token. All other bytes stay as they were. original is the URL as it was
// received, with which error routes start again.
func (s Sources) Remove(r *http.Request, original *url.URL) {
	for i := range s {
		src := &s[i]
		switch src.Kind {
		case Header:
			src.removeHeader(r)
		case Cookie:
			src.removeCookie(r)
		case Query, Ticket:
			r.URL.RawQuery = src.removeParameter(r.URL.RawQuery)
			r.RequestURI = src.removeFromAddress(r.RequestURI)
			if original != nil && original != r.URL {
				original.RawQuery = src.removeParameter(original.RawQuery)
			}
			src.removeReferer(r)
		case WebSocketProtocol:
			src.removeProtocol(r)
		}
	}
}

func (s *Source) removeHeader(r *http.Request) {
	values := r.Header[s.Name]
	if len(values) == 1 {
		if _, ours := s.credentials(values[0]); ours {
			delete(r.Header, s.Name)
		}
		return
	}
	kept := slices.DeleteFunc(slices.Clone(values), func(value string) bool {
		_, ours := s.credentials(value)
		return ours
	})
	replaceHeader(r, s.Name, values, kept)
}

func (s *Source) removeCookie(r *http.Request) {
	lines := r.Header["Cookie"]
	var kept []string
	for _, line := range lines {
		// This removes more than Find finds: a backend that trims all blanks of Unicode would find the token under these
		// names as well.
		rest := removeFrom(line, ';', func(pair string) bool {
			if len(pair) < len(s.Name) {
				return false
			}
			name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
			return name == s.Name
		})
		switch {
		case rest == line:
			kept = append(kept, line)
		case strings.TrimSpace(rest) != "":
			kept = append(kept, strings.TrimPrefix(rest, " "))
		}
	}
	replaceHeader(r, "Cookie", lines, kept)
}

// removeReferer cleans the header Referer, the address of the page. It contains the token if the page was opened with one.
func (s *Source) removeReferer(r *http.Request) {
	values := r.Header["Referer"]
	cleaned := slices.Clone(values)
	for i, value := range values {
		cleaned[i] = s.removeFromAddress(value)
	}
	replaceHeader(r, "Referer", values, cleaned)
}

// removeFrom removes the parts of a list for which ours is true, and leaves the bytes of all others.
func removeFrom(list string, separator byte, ours func(part string) bool) string {
	found := ""
	for part := range parts(list, separator) {
		if ours(part) {
			found = part
			break
		}
	}
	if found == "" {
		return list
	}
	kept := make([]byte, 0, len(list)-len(found)+1) // usually nothing is left; what is left ends with a separator
	for more := true; more; {
		var part string
		if part, list, more = strings.Cut(list, string(rune(separator))); part == "" || !ours(part) {
			kept = append(append(kept, part...), separator)
		}
	}
	return string(kept[:max(0, len(kept)-1)])
}

// replaceHeader sets the values of a header if they changed, and removes it if none is left.
func replaceHeader(r *http.Request, name string, before, after []string) {
	switch {
	case slices.Equal(before, after):
	case len(after) == 0:
		delete(r.Header, name)
	default:
		r.Header[name] = after
	}
}

// parts are the parts of a list that are not empty. An attacker chooses the list, possibly with thousands
// of parts. So the cost of each part is bounded by its length.
func parts(list string, separator byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := 0
		for i := range len(list) {
			if list[i] != separator {
				continue
			}
			if start < i && !yield(list[start:i]) {
				return
			}
			start = i + 1
		}
		if start < len(list) {
			yield(list[start:])
		}
	}
}
