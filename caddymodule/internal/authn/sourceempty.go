package authn

import (
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// WhyEmpty says why token, the content of a source, is what pages of visitors without a login send instead of a token. It
// returns [cause.None] for any other text.
func WhyEmpty(token string) cause.Cause {
	switch {
	case token == "":
		return cause.SchemeAlone
	case token == "undefined" || token == "null":
		return cause.WordForNothing
	case strings.HasPrefix(token, "[object ") && strings.HasSuffix(token, "]"):
		return cause.WordForObject
	}
	return cause.None
}
