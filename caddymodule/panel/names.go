package panel

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// A placeholder names the operator, and others the operator's messengers. Only placeholders that an authenticator sets are
// accepted: a client may control any other, now or in a later version of Caddy.

const (
	userPrefix       = "http.auth.user."
	headerPrefix     = "http.request.header."
	clientCertPrefix = "http.request.tls.client."
	proxiedPrefix    = "http.reverse_proxy.header."
)

// certificateFields are the fields of a client certificate that identify its owner.
var certificateFields = []string{"subject", "serial", "fingerprint", "public_key_sha256"}

const allowedUsers = "{http.auth.user.id}, {http.auth.user.<name>}, {http.reverse_proxy.header.<name>}, {http.request.header.<name>} of a header that forward_auth copies, " +
	"or {http.request.tls.client.<field>} with subject, serial, fingerprint, public_key_sha256 or san.…"

const allowedMessengers = "{http.request.host.labels.<n>}, {http.request.uri.path.<n>}, {http.auth.user.id}, {http.auth.user.<name>}, {http.reverse_proxy.header.<name>}, " +
	"or {http.request.tls.client.<field>} with subject, serial, fingerprint, public_key_sha256 or san.…"

// isAuthenticated reports whether an authenticator sets the placeholder: Caddy's authentication, a service behind forward_auth,
// or TLS.
func isAuthenticated(key string) bool {
	if name, ok := strings.CutPrefix(key, userPrefix); ok {
		return isPlaceholderName(name)
	}
	if name, ok := strings.CutPrefix(key, proxiedPrefix); ok {
		return httpguts.ValidHeaderFieldName(name) && textproto.CanonicalMIMEHeaderKey(name) == name
	}
	if field, ok := strings.CutPrefix(key, clientCertPrefix); ok {
		san, isSAN := strings.CutPrefix(field, "san.")
		return slices.Contains(certificateFields, field) || isSAN && isPlaceholderName(san)
	}
	return false
}

func isPlaceholderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.'
	})
}

func checkPanelUser(user string) error {
	key, opened := strings.CutPrefix(user, "{")
	key, closed := strings.CutSuffix(key, "}")
	if !opened || !closed || key == "" || strings.ContainsAny(key, `{}\`) {
		return fmt.Errorf("user %q is not exactly one placeholder; use %s", user, allowedUsers)
	}
	header, isHeader := strings.CutPrefix(key, headerPrefix)
	if isAuthenticated(key) || isHeader && httpguts.ValidHeaderFieldName(header) {
		return nil
	}
	return fmt.Errorf("user %q %s; use %s", user, notAuthenticated(key), allowedUsers)
}

// notAuthenticated says why a placeholder names neither an operator nor a messenger.
func notAuthenticated(key string) string {
	if strings.HasPrefix(key, "http.request.") || strings.HasPrefix(key, upstream.PlaceholderPrefix) {
		return "is chosen by the client or the contact"
	}
	return "is not set by an authenticator, and may be chosen by the client or the contact"
}

// placeholder finds the placeholders in a messenger's name, without escapes and nesting, which Caddy's replacer would read differently.
var placeholder = regexp.MustCompile(`\{([^{}\\]+)\}`)

func checkPanelMessenger(entry string) error {
	name := placeholder.ReplaceAllString(entry, "0") // a valid part of any name
	if i := strings.IndexAny(name, `{}\`); i >= 0 && name[i] == '{' {
		return errors.New("has a placeholder without an end or a name, or inside another one")
	} else if i >= 0 {
		return errors.New("has an unpaired brace or an escape; write only names and placeholders")
	}
	for _, found := range placeholder.FindAllStringSubmatch(entry, -1) {
		if key := found[1]; !config.IsRoutePlaceholder(key) && !isAuthenticated(key) {
			return fmt.Errorf("{%s} %s; use %s", key, notAuthenticated(key), allowedMessengers)
		}
	}
	if err := config.CheckName(name); err != nil {
		return fmt.Errorf("the name %w", err)
	}
	return nil
}

// operatorOf returns the operator's name.
func (v *visit) operatorOf(repl *caddy.Replacer) (string, bool) {
	name, ok := v.proven(repl, v.User[1:len(v.User)-1])
	if !ok || name == "" || len(name) > maxOperatorName || strings.TrimSpace(name) != name || printable.Line(name) != name {
		return "", false
	}
	return name, true
}

// proven returns what an authenticator has set under key in this request, and false if anything else has set it.
func (v *visit) proven(repl *caddy.Replacer, key string) (string, bool) {
	switch {
	case strings.HasPrefix(key, userPrefix):
		return v.setByAuthenticator(repl, key)
	case strings.HasPrefix(key, proxiedPrefix):
		name, ok := v.setByAuthenticator(repl, key)
		return name, ok && !strings.Contains(name, ",") // several values are joined by commas, and which one is the name is unknown
	case strings.HasPrefix(key, clientCertPrefix):
		if !hasVerifiedCert(v.r) {
			v.logger.Warn("a request to the panel has no verified client certificate; give client_auth a trust_pool and the mode require_and_verify")
			return "", false
		}
		return repl.GetString(key)
	}
	// Clients can send any header: it counts only if an authentication service has answered this very request with the same
	// value. A mount without that service is closed, rather than open to every client that sends the header.
	header := textproto.CanonicalMIMEHeaderKey(strings.TrimPrefix(key, headerPrefix))
	values := v.r.Header[header]
	proven, ok := v.proven(repl, proxiedPrefix+header)
	if ok && len(values) == 1 && values[0] == proven {
		return proven, true
	}
	if len(values) > 0 {
		v.logger.Warn("a request to the panel has a name in a header that forward_auth has not copied from its answer; if forward_auth copies it "+
			"under another name, write user {http.reverse_proxy.header.<its name in the answer>}", zap.String("header", header))
	}
	return "", false
}

// setByAuthenticator returns the value under key that a handler has set on the replacer, as authenticators do. Outputs of map
// have the same names if nothing is set, and the vars handler may set the user's ID: both may copy a value from the client.
// Whether an authenticator has set the ID before or after vars is unknown, so that such a value does not count.
func (v *visit) setByAuthenticator(repl *caddy.Replacer, key string) (string, bool) {
	if vars, _ := v.r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); vars != nil {
		if _, set := vars[key]; set {
			v.logger.Warn("a request to the panel has a name that the vars handler has set instead of an authenticator", zap.String("placeholder", key))
			return "", false
		}
	}
	value, ok := repl.Get(key)
	if !ok {
		return "", false
	}
	repl.Delete(key)
	other, still := repl.GetString(key)
	if still && other == caddy.ToString(value) {
		return "", false // nothing was set, or map says the same
	}
	repl.Set(key, value)
	return caddy.ToString(value), true
}

func hasVerifiedCert(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

// scopeOf returns the messengers that this request may see. Invalid names are left out, never corrected: the owner "Acme" is not
// the owner "acme".
func (v *visit) scopeOf(repl *caddy.Replacer) []string {
	var scope []string
	for _, entry := range v.Messengers {
		if name, ok := v.messengerName(repl, entry); ok && config.CheckName(name) == nil && !slices.Contains(scope, name) {
			scope = append(scope, name)
		}
	}
	return scope
}

// messengerName puts the values of placeholders into a name of the configuration. If one is empty there is no name: the rest
// could be the name of another messenger.
func (v *visit) messengerName(repl *caddy.Replacer, entry string) (name string, ok bool) {
	ok = true
	name = placeholder.ReplaceAllStringFunc(entry, func(found string) (text string) {
		switch key := strings.Trim(found, "{}"); {
		case !ok: // another one is empty
		case !config.IsRoutePlaceholder(key):
			text, ok = v.proven(repl, key)
		case strings.HasPrefix(key, config.PathPartPrefix) && !(hasOneReading(v.r.URL) && hasOneReading(v.originalURL())):
			ok = false
		case strings.HasPrefix(key, config.HostLabelPrefix) && !upstream.DropFinalDot(v.r):
			ok = false
		default:
			text, ok = repl.GetString(key)
		}
		ok = ok && text != ""
		return text
	})
	return name, ok
}

// originalURL returns the URL before handlers rewrote it. Caddy has chosen the routes by this URL.
func (v *visit) originalURL() *url.URL {
	if r, ok := v.r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && r.URL != nil {
		return r.URL
	}
	return v.r.URL
}

// hasOneReading reports whether all servers read a path alike. Of /acme/../other/ Caddy's matchers see
// /other/, to whose owner they lead, and the placeholder sees acme.
func hasOneReading(u *url.URL) bool {
	path := u.EscapedPath()
	return !upstream.IsAmbiguous(path, strings.Count(path, "/")+1)
}
