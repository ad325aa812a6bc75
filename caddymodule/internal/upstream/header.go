package upstream

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
	DefaultIdentityHeader  = "X-Contact-Identity"
	DefaultMessengerHeader = "X-Contact-Messenger"

	EncodingPercent = "percent"
	EncodingRaw     = "raw"

	// maxClaimHeader and maxClaimHeaders bound what claims add to a request, in bytes: many backends refuse requests
	// with more than 8 KiB of headers.
	maxClaimHeader  = 1 << 10
	maxClaimHeaders = 4 << 10
)

// Contract is the contract with the upstream: the headers that only the gateway sets.
type Contract struct {
	identity, messenger string
	Claims              []string // the claims that go upstream
	Selection           *authn.Question
	claimHeaders        []string // their headers, in the same order
	always              []string // the headers that every contact gives
	raw                 bool
	Folded              []string           // all of these headers, folded
	Others              *[]string          // those of every handler of the configuration, folded
	tokens              []tokenHeader      // the headers that tokens come in, of which there are other spellings
	sources             []string           // all headers that tokens come in
	Dropped             func(claim string) // told of each claim that gives no header
}

// Names say which headers the gateway sets.
type Names struct {
	Identity, Messenger string
	Raw                 bool          // values are written as they are, and not percent-encoded
	Claims              []string      // that have headers of their own
	ClaimHeaders        []string      // in the same order
	Sources             authn.Sources // where tokens are looked for
}

func NewContract(names Names) Contract {
	c := Contract{
		identity:  textproto.CanonicalMIMEHeaderKey(names.Identity),
		messenger: textproto.CanonicalMIMEHeaderKey(names.Messenger),
		raw:       names.Raw,
		Dropped:   func(string) {},
	}
	c.Folded = []string{Fold(c.identity), Fold(c.messenger)}
	for i, claim := range names.Claims {
		c.Claims = append(c.Claims, claim)
		c.claimHeaders = append(c.claimHeaders, textproto.CanonicalMIMEHeaderKey(names.ClaimHeaders[i]))
		c.Folded = append(c.Folded, Fold(names.ClaimHeaders[i]))
	}
	c.Selection = authn.NewQuestion(c.Claims)
	c.always = []string{c.identity, c.messenger}
	c.tokens = tokenHeaders(names.Sources)
	for _, source := range names.Sources {
		if source.Kind == authn.Header {
			c.sources = append(c.sources, source.Name)
		}
	}
	return c
}

// Clean removes what a client could use to speak in the gateway's name. It changes r in place, so that error routes that
// proxy are covered as well, and it runs before anything can fail.
func (c *Contract) Clean(r *http.Request, o *Outcome) *authn.Rejection {
	for key := range r.Header {
		if c.Guards(key) && !slices.Contains(o.set, key) || c.Removes(key) {
			delete(r.Header, key)
		}
	}
	cleanConnection(r.Header) // first: it leaves a short list
	CleanUpgrade(r)
	cleanUnnamedUpgrade(r)
	// Caddy forwards request trailers, declared and undeclared ones, as soon as this map is there.
	r.Trailer = nil
	if r.Method == http.MethodConnect && !isExtendedWebSocket(r) {
		return &authn.Rejection{Code: authn.ProtocolNotAllowed, Reason: "a CONNECT that is not for a WebSocket would be a tunnel past the gateway"}
	}
	return nil
}

// CleanUpgrade leaves no upgrade but that to a WebSocket: Caddy tunnels any other one too, and inside such a tunnel (h2c
// smuggling) requests would pass without a check. The request goes on as plain HTTP.
func CleanUpgrade(r *http.Request) {
	values, found := r.Header["Upgrade"]
	if !found || len(values) == 1 && ascii.EqualFold(values[0], "websocket") && r.Method == http.MethodGet && r.ProtoMajor == 1 {
		return
	}
	delete(r.Header, "Upgrade")
	if connection := r.Header["Connection"]; len(connection) > 0 {
		kept := slices.DeleteFunc(ConnectionOptions(connection), func(option string) bool { return option == "upgrade" })
		setOrDelete(r.Header, "Connection", kept)
	}
}

// cleanUnnamedUpgrade removes an Upgrade that Connection does not name. A proxy behind us takes it for none (RFC 9110 section
// 7.8), and what we took for a WebSocket would be an ordinary request, with a token that only a handshake may carry.
func cleanUnnamedUpgrade(r *http.Request) {
	if len(r.Header["Upgrade"]) > 0 && !slices.Contains(ConnectionOptions(r.Header["Connection"]), "upgrade") {
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

func ConnectionOptions(values []string) []string {
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

// IsHandshake reports whether r, which was cleaned, opens a WebSocket.
func IsHandshake(r *http.Request) bool {
	return len(r.Header["Upgrade"]) > 0 || isExtendedWebSocket(r)
}

// Set tells the upstream, the placeholders and the access log who the contact is. All values were checked, or are
// encoded here; the placeholders carry the encoded form, so that none can be read out of an identity.
func (c *Contract) Set(r *http.Request, o *Outcome) {
	o.identity = percentEncode(o.Contact.Identity)
	identity := o.identity
	if c.raw {
		identity = o.Contact.Identity
	}
	if o.set == nil {
		o.set = slices.Clip(c.always) // shared; whoever appends to it makes a copy
	} else {
		o.set = append(o.set, c.always...)
	}
	// Later handlers may change values in place, so every request has its own.
	values := []string{identity, o.Messenger}
	o.sent = values
	r.Header[c.identity] = values[0:1:1]
	r.Header[c.messenger] = values[1:2:2]
	c.setClaims(r, o)
}

// setClaims never refuses a request: a claim that cannot be a header gives none, and is counted.
func (c *Contract) setClaims(r *http.Request, o *Outcome) {
	if len(c.Claims) == 0 {
		return
	}
	o.claims = c
	o.values = make([]string, len(c.Claims))
	values := make([]string, len(c.Claims))
	o.claimed = values
	total := 0
	for i, claim := range o.Contact.Claims {
		if !claim.Present {
			continue
		}
		encoded := percentEncode(claim.Text)
		value := encoded
		if c.raw {
			if !isFieldValue(claim.Text) {
				c.Dropped(c.Claims[i])
				continue
			}
			value = claim.Text
		}
		if len(value) > maxClaimHeader || total+len(value) > maxClaimHeaders {
			c.Dropped(c.Claims[i])
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
