package upstream

import (
	"net/http"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Clean removes everything with which a client could pretend to be the gateway. It changes r in place, so that error routes
// with a proxy are covered as well. It must run before anything can fail.
func (c *Contract) Clean(r *http.Request, o *Outcome) *authn.Rejection {
	connection, upgrade := c.cleanNames(r.Header, o)
	var options []string
	if connection {
		options = cleanConnection(r.Header) // first, because the upgrade must be named there
	}
	o.Handshake = upgrade && cleanUpgrade(r, options) || isExtendedWebSocket(r)
	// Caddy forwards request trailers, declared and undeclared ones, as soon as this map exists.
	r.Trailer = nil
	if r.Method == http.MethodConnect && !o.Handshake {
		return &authn.Rejection{Code: authn.ProtocolNotAllowed, Reason: "a CONNECT that is not for a WebSocket would be a tunnel past the gateway"}
	}
	return nil
}

// cleanNames removes the headers that clients must not send, in all spellings. It reports which of the two headers that are
// cleaned by their values are there, so that the others cost no look-up.
func (c *Contract) cleanNames(header http.Header, o *Outcome) (connection, upgrade bool) {
	candidates := c.mayRemove()
	for key := range header {
		switch {
		case key == "Connection":
			connection = true
		case key == "Upgrade":
			upgrade = true
		case candidates.mayHave(key) && (c.Guards(key) && !o.isSet(key) && !c.isShared(key) || c.removes(key)):
			delete(header, key)
		}
	}
	return connection, upgrade
}

// cleanConnection removes the headers that Connection names, and the names from it. It returns the options that are left, in
// lower case. A proxy removes the headers that are named there (RFC 9110 section 7.6.1): if a client could name our headers, the
// verified identity would be removed.
func cleanConnection(header http.Header) (kept []string) {
	values := header["Connection"]
	if len(values) == 1 && values[0] != "" && keptOption(values[0]) == values[0] {
		return values // "keep-alive", as most clients send it
	}
	named := named{header: header}
	for _, value := range values {
		eachOption(value, func(option string) {
			switch lower := keptOption(option); {
			case lower == "":
				named.remove(option)
			case !slices.Contains(kept, lower):
				kept = append(kept, lower)
			}
		})
	}
	setOrDelete(header, "Connection", kept)
	return kept
}

// cleanUpgrade removes every upgrade except that to a WebSocket, and reports whether r is one. Caddy would tunnel others as
// well, and inside such a tunnel (h2c smuggling) requests would pass without a check. The request continues as plain HTTP.
//
// An upgrade that is not among the options of Connection is removed too. The next proxy would ignore it (RFC 9110 section
// 7.8), so that a request that we took for a handshake would arrive as an ordinary one, with a token that only a handshake
// may have.
func cleanUpgrade(r *http.Request, options []string) bool {
	named := slices.Contains(options, "upgrade")
	values := r.Header["Upgrade"]
	if len(values) == 1 && ascii.EqualFold(values[0], "websocket") && r.Method == http.MethodGet && r.ProtoMajor == 1 {
		if named {
			return true
		}
	} else if named {
		setOrDelete(r.Header, "Connection", slices.DeleteFunc(options, func(option string) bool { return option == "upgrade" }))
	}
	delete(r.Header, "Upgrade")
	return false
}

// setOrDelete sets a list header, or deletes it if the list is empty.
func setOrDelete(header http.Header, name string, list []string) {
	if len(list) == 0 {
		delete(header, name)
		return
	}
	header[name] = []string{strings.Join(list, ", ")}
}

// isExtendedWebSocket reports whether r opens a WebSocket over HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220). The servers of
// these versions give us the :protocol in different places.
func isExtendedWebSocket(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	if r.ProtoMajor == 3 {
		return r.Proto == "websocket"
	}
	return r.ProtoMajor == 2 && slices.Equal(r.Header[":protocol"], []string{"websocket"})
}

// IsSafe reports whether the method is safe (RFC 9110 section 9.2.1).
func IsSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
