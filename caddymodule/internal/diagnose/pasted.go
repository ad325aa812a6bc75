package diagnose

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

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
	const authorization, protocol = "Authorization", "Sec-Websocket-Protocol"
	name, value, named := strings.Cut(text, ":")
	if name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)); !named || name != authorization && name != protocol {
		name, value = "", text
	}
	value = strings.TrimSpace(value)
	if name == "" && looksLikeToken(value) {
		return cause.None
	}
	if name != authorization {
		r := &http.Request{URL: new(url.URL), Header: http.Header{protocol: {value}}}
		if Astray(sources, r) != cause.None {
			return cause.MarkerCase
		}
		if found, _ := sources.Find(r, authn.Look{Handshake: true}); found.Any || name == protocol {
			return cause.TextIsHeader
		}
	}
	if c := emptyOf(value); name == authorization && c != cause.None {
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
