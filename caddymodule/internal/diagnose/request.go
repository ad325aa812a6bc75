package diagnose

import (
	"net/http"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Astray returns the cause if a request without a token has one in another form, in a header that the sources name. It is called for
// every request without a token, so it reads only the beginning of the header, or of each subprotocol.
func Astray(sources authn.Sources, r *http.Request) cause.Cause {
	for i := range sources {
		src := &sources[i]
		if src.Kind == authn.WebSocketProtocol && src.HasOtherCase(r) {
			return cause.MarkerCase
		}
		if src.Kind != authn.Header || src.Scheme == "" {
			continue
		}
		values := r.Header[src.Name]
		if len(values) != 1 {
			continue
		}
		scheme, rest, found := strings.Cut(values[0], " ")
		switch {
		case !found && looksLikeToken(scheme):
			return cause.SchemeMissing
		case found && looksLikeToken(strings.TrimPrefix(strings.TrimPrefix(strings.TrimLeft(rest, " \t"), "token="), `"`)): // Rails has token="…"
			return cause.SchemeOther
		case found && ascii.EqualFold(scheme, "Basic"):
			return cause.SchemeBasic
		}
	}
	return cause.None
}
