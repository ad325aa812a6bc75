package diagnose

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// WithPasted adds findings about a text that is not a token, as if it were a line of a request: people copy the whole line from the
// developer tools of a browser. sources are where the messenger's routes look for tokens.
func WithPasted(findings []Finding, sources authn.Sources, text string) []Finding {
	c := pastedCause(sources, text)
	if c == cause.None {
		return findings
	}
	info := c.Info()
	all := []Finding{{c.String(), cause.Sentence(info.Text), cause.Sentence(info.Fix)}}
	for _, f := range findings {
		if f.Name == cause.TextIsHeader.String() && f.Name != all[0].Name { // other findings only guess what the text is
			all = append(all, f)
		}
	}
	return all
}

func pastedCause(sources authn.Sources, text string) cause.Cause {
	switch name, value := pastedLine(text); {
	case name == authorization:
		return authorizationCause(sources, value)
	case name == protocol:
		if c := protocolCause(sources, value); c != cause.None {
			return c
		}
		return cause.TextIsHeader
	case name != "" || looksLikeToken(value):
		return cause.None // what its form says is true
	default:
		c := protocolCause(sources, value)
		if scheme, _, _ := strings.Cut(value, " "); c == cause.None && httpguts.ValidHeaderFieldName(scheme) { // a scheme is such a word too
			c = authorizationCause(sources, value)
		}
		return c
	}
}

const authorization, protocol = "Authorization", "Sec-Websocket-Protocol"

// pastedLine returns the name and the value of a header, or "" and the text if it does not begin with the name of a header. A scheme with a colon is the
// value of Authorization.
func pastedLine(text string) (name, value string) {
	name, value, found := strings.Cut(text, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	switch {
	case found && ascii.EqualFold(name, "Bearer"):
		return authorization, strings.TrimSpace(text)
	case found && httpguts.ValidHeaderFieldName(name):
		return textproto.CanonicalMIMEHeaderKey(name), value
	}
	return "", strings.TrimSpace(text)
}

func protocolCause(sources authn.Sources, value string) cause.Cause {
	r := &http.Request{URL: new(url.URL), Header: http.Header{protocol: {value}}}
	if Astray(sources, r) != cause.None {
		return cause.MarkerCase
	}
	if found, _ := sources.Find(r, authn.Look{Handshake: true}); found.Any {
		return cause.TextIsHeader
	}
	return cause.None
}

func authorizationCause(sources authn.Sources, value string) cause.Cause {
	if c := emptyOf(value); c != cause.None && value != "" {
		return c
	}
	if scheme, rest, found := strings.Cut(value, ":"); found && ascii.EqualFold(scheme, "Bearer") && rest != "" {
		return cause.SchemeColon
	}
	r := &http.Request{URL: new(url.URL), Header: http.Header{authorization: {value}}}
	if found, _ := sources.Find(r, authn.Look{}); looksLikeToken(found.Token) {
		return cause.TextIsHeader
	}
	return Astray(sources, r)
}
