package diagnose

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Pasted returns the finding for a text that is not a token, but what a request has in a header: people copy the whole line from the
// tools of a browser. sources are where the messenger's routes look for tokens. It returns nil if the text is something else.
func Pasted(sources authn.Sources, text string) *Finding {
	c := pastedCause(sources, text)
	if c == cause.None {
		return nil
	}
	info := c.Info()
	return &Finding{c.String(), cause.Sentence(info.Text), cause.Sentence(info.Fix)}
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
		r := &http.Request{Header: http.Header{protocol: {value}}}
		if Astray(sources, r) != cause.None {
			return cause.MarkerCase
		}
		if found, _ := sources.Find(r, authn.Look{Handshake: true}); found.Any || name == protocol {
			return cause.TextIsHeader
		}
	}
	if scheme, rest, found := strings.Cut(value, ":"); found && ascii.EqualFold(scheme, "Bearer") && rest != "" {
		return cause.SchemeColon
	}
	r := &http.Request{Header: http.Header{authorization: {value}}}
	if found, _ := sources.Find(r, authn.Look{}); looksLikeToken(found.Token) {
		return cause.TextIsHeader
	}
	return Astray(sources, r)
}
