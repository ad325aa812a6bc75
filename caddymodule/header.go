package caddymodule

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

const (
	defaultIdentityHeader  = "X-Contact-Identity"
	defaultMessengerHeader = "X-Contact-Messenger"

	encodingPercent = "percent"
	encodingRaw     = "raw"

	// maxClaimHeader and maxClaimHeaders bound what claims add to a request, in bytes: many backends refuse requests
	// with more than 8 KiB of headers.
	maxClaimHeader  = 1 << 10
	maxClaimHeaders = 4 << 10
)

// headers is the contract with the upstream: the headers that only the gateway sets.
type headers struct {
	identity, messenger string
	claims              []string // the claims that go upstream
	question            *authn.Question
	claimHeaders        []string // their headers, in the same order
	always              []string // the headers that every contact gives
	raw                 bool
	folded              []string           // all of these headers, folded
	others              *[]string          // those of every handler of the configuration, folded
	tokens              []tokenHeader      // the headers that tokens come in, of which there are other spellings
	sources             []string           // all headers that tokens come in
	dropped             func(claim string) // told of each claim that gives no header
}

// headerNames say which headers the gateway sets.
type headerNames struct {
	identity, messenger string
	raw                 bool          // values are written as they are, and not percent-encoded
	claims              []string      // that have headers of their own
	claimHeaders        []string      // in the same order
	sources             authn.Sources // where tokens are looked for
}

func newHeaders(names headerNames) headers {
	c := headers{
		identity:  textproto.CanonicalMIMEHeaderKey(names.identity),
		messenger: textproto.CanonicalMIMEHeaderKey(names.messenger),
		raw:       names.raw,
		dropped:   func(string) {},
	}
	c.folded = []string{fold(c.identity), fold(c.messenger)}
	for i, claim := range names.claims {
		c.claims = append(c.claims, claim)
		c.claimHeaders = append(c.claimHeaders, textproto.CanonicalMIMEHeaderKey(names.claimHeaders[i]))
		c.folded = append(c.folded, fold(names.claimHeaders[i]))
	}
	c.question = authn.NewQuestion(c.claims)
	c.always = []string{c.identity, c.messenger}
	c.tokens = tokenHeaders(names.sources)
	for _, source := range names.sources {
		if source.Kind == authn.Header {
			c.sources = append(c.sources, source.Name)
		}
	}
	return c
}

// clean removes what a client could use to speak in the gateway's name. It changes r in place, so that error routes that
// proxy are covered as well, and it runs before anything can fail.
func (c *headers) clean(r *http.Request, o *outcome) *authn.Rejection {
	for key := range r.Header {
		if c.guards(key) && !slices.Contains(o.set, key) || c.removes(key) {
			delete(r.Header, key)
		}
	}
	cleanConnection(r.Header) // first: it leaves a short list
	cleanUpgrade(r)
	cleanUnnamedUpgrade(r)
	// Caddy forwards request trailers, declared and undeclared ones, as soon as this map is there.
	r.Trailer = nil
	if r.Method == http.MethodConnect && !isExtendedWebSocket(r) {
		return &authn.Rejection{Code: authn.ProtocolNotAllowed, Reason: "a CONNECT that is not for a WebSocket would be a tunnel past the gateway"}
	}
	return nil
}

// cleanUpgrade leaves no upgrade but that to a WebSocket: Caddy tunnels any other one too, and inside such a tunnel (h2c
// smuggling) requests would pass without a check. The request goes on as plain HTTP.
func cleanUpgrade(r *http.Request) {
	values, found := r.Header["Upgrade"]
	if !found || len(values) == 1 && ascii.EqualFold(values[0], "websocket") && r.Method == http.MethodGet && r.ProtoMajor == 1 {
		return
	}
	delete(r.Header, "Upgrade")
	if connection := r.Header["Connection"]; len(connection) > 0 {
		kept := slices.DeleteFunc(connectionOptions(connection), func(option string) bool { return option == "upgrade" })
		setOrDelete(r.Header, "Connection", kept)
	}
}

// cleanUnnamedUpgrade removes an Upgrade that Connection does not name. A proxy behind us takes it for none (RFC 9110 section
// 7.8), and what we took for a WebSocket would be an ordinary request, with a token that only a handshake may carry.
func cleanUnnamedUpgrade(r *http.Request) {
	if len(r.Header["Upgrade"]) > 0 && !slices.Contains(connectionOptions(r.Header["Connection"]), "upgrade") {
		delete(r.Header, "Upgrade")
	}
}

// cleanConnection removes the headers that Connection names, and its names. A proxy removes what is named there (RFC
// 9110 section 7.6.1), and would remove the verified identity if a client could name it.
func cleanConnection(header http.Header) {
	values := header["Connection"]
	if len(values) == 0 {
		return
	}
	var kept []string
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
}

func connectionOptions(values []string) []string {
	var options []string
	for _, value := range values {
		for option := range strings.SplitSeq(value, ",") {
			if option = ascii.Lower(strings.Trim(option, " \t")); option != "" {
				options = append(options, option)
			}
		}
	}
	return options
}

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

// isHandshake reports whether r, which was cleaned, opens a WebSocket.
func isHandshake(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || isExtendedWebSocket(r)
}

// set tells the upstream, the placeholders and the access log who the contact is. All values were checked, or are
// encoded here; the placeholders carry the encoded form, so that none can be read out of an identity.
func (c *headers) set(r *http.Request, o *outcome) {
	o.identity = percentEncode(o.contact.Identity)
	identity := o.identity
	if c.raw {
		identity = o.contact.Identity
	}
	if o.set == nil {
		o.set = slices.Clip(c.always) // shared; whoever appends to it makes a copy
	} else {
		o.set = append(o.set, c.always...)
	}
	// Later handlers may change values in place, so every request has its own.
	values := []string{identity, o.messenger}
	o.sent = values
	r.Header[c.identity] = values[0:1:1]
	r.Header[c.messenger] = values[1:2:2]
	c.setClaims(r, o)
}

// setClaims never refuses a request: a claim that cannot be a header gives none, and is counted.
func (c *headers) setClaims(r *http.Request, o *outcome) {
	if len(c.claims) == 0 {
		return
	}
	o.claims = c
	o.values = make([]string, len(c.claims))
	values := make([]string, len(c.claims))
	o.claimed = values
	total := 0
	for i, claim := range o.contact.Claims {
		if !claim.Present {
			continue
		}
		encoded := percentEncode(claim.Text)
		value := encoded
		if c.raw {
			if !isFieldValue(claim.Text) {
				c.dropped(c.claims[i])
				continue
			}
			value = claim.Text
		}
		if len(value) > maxClaimHeader || total+len(value) > maxClaimHeaders {
			c.dropped(c.claims[i])
			continue
		}
		total += len(value)
		o.set = append(o.set, c.claimHeaders[i])
		values[i], o.values[i] = value, encoded
		r.Header[c.claimHeaders[i]] = values[i : i+1 : i+1]
	}
}

// isFieldValue reports whether a server reads exactly value out of a header that has it.
func isFieldValue(value string) bool {
	return httpguts.ValidHeaderFieldValue(value) && strings.Trim(value, " \t") == value
}

// percentEncode writes what a header cannot carry faithfully as %XX of its UTF-8 bytes: all that is not visible ASCII or
// an inner blank, and the characters %, +, { and }. Percent-decoding gives the exact value back, and so does the decoding of
// forms, which would make a bare "+" a blank, and one contact another.
func percentEncode(value string) string {
	const digits = "0123456789ABCDEF"
	extra := 0
	for i := range len(value) {
		if needsEncoding(value, i) {
			extra += 2
		}
	}
	if extra == 0 {
		return value
	}
	encoded := make([]byte, 0, len(value)+extra)
	for i := range len(value) {
		if c := value[i]; needsEncoding(value, i) {
			encoded = append(encoded, '%', digits[c>>4], digits[c&15])
		} else {
			encoded = append(encoded, c)
		}
	}
	return string(encoded)
}

func needsEncoding(value string, i int) bool {
	switch c := value[i]; c {
	case '%', '+', '{', '}':
		return true
	case ' ':
		return i == 0 || i == len(value)-1
	default:
		return c < 0x21 || c > 0x7e
	}
}
