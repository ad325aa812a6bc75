package diagnose

import (
	"net/http"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// Astray says how a request without a token has sent one all the same, in a header that the sources name but in another form. It is
// called for every request without a token, and looks at the beginning of the header, or of each subprotocol, alone.
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
