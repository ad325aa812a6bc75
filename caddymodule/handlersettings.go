package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// resolveMessenger looks the messenger up at load, where its name is known by then.
func (h *Handler) resolveMessenger() error {
	names := h.app.names()
	if h.Messenger == "" {
		if len(names) != 1 {
			return fmt.Errorf("%d messengers are configured; name the one that is meant: messenger_auth <messenger>", len(names))
		}
		h.Messenger = names[0]
	}
	if strings.Contains(h.Messenger, "{") {
		return nil
	}
	if h.static = h.app.Messengers[h.Messenger]; h.static == nil {
		return fmt.Errorf("messenger %q is not configured; configured are: %s", h.Messenger, strings.Join(names, ", "))
	}
	return nil
}

// warnAboutLogs tells operators that Caddy writes down what we remove: it copies the request for its logs before any
// handler runs.
func (h *Handler) warnAboutLogs() {
	for _, source := range h.sources {
		if h.accessed && isLogged(source) {
			h.app.auditWarning("tokens from this source stand in Caddy's access logs and error logs; filter them as section \"What Caddy logs\" of the README shows",
				zap.String("token_from", string(source.Kind)), zap.String("name", source.Name))
		}
	}
}

// isLogged reports whether Caddy's logs hold what stands in source. Caddy itself redacts cookies and two headers.
func isLogged(source authn.Source) bool {
	switch source.Kind {
	case authn.Cookie:
		return false
	case authn.Header:
		return source.Name != "Authorization" && source.Name != "Proxy-Authorization"
	}
	return true
}

// checkSettings looks at all that can be judged without the app. The Caddyfile adapter calls it too, to name the place
// of a mistake.
func (h *Handler) checkSettings() error {
	if err := checkMessengerRef(h.Messenger); err != nil {
		return err
	}
	if err := h.Mode.check(); err != nil {
		return fmt.Errorf("mode %q %w", h.Mode, err)
	}
	for i, source := range h.TokenFrom {
		if err := source.check(); err != nil {
			return fmt.Errorf("token_from %s %s: %w", source.From, source.Name, err)
		}
		if slices.Contains(h.TokenFrom[:i], source) {
			return fmt.Errorf("token_from %s %s: is there twice; remove one", source.From, source.Name)
		}
	}
	if h.LogoutPath != "" && !strings.HasPrefix(h.LogoutPath, "/") {
		return fmt.Errorf("logout_path %q does not begin with a slash", h.LogoutPath)
	}
	if h.LogoutPath == "" && h.LogoutEverywhere {
		return errors.New("logout_everywhere has no logout_path")
	}
	if err := checkRejection(h.WebSocketRejection); err != nil {
		return err
	}
	return h.checkHeaders()
}

// routePlaceholders are the placeholders that may choose the messenger: they name the place that was asked for. One that
// a client fills freely on any URL (header, cookie, query) would let it choose which keys it is checked with.
var routePlaceholders = []string{"http.request.host.labels.", "http.request.uri.path."}

// checkMessengerRef checks the messenger's name in a directive, which may have placeholders.
func checkMessengerRef(ref string) error {
	if ref == "" {
		return nil
	}
	if !strings.Contains(ref, "{") {
		if err := checkMessengerName(ref); err != nil {
			return fmt.Errorf("messenger %q: the name %w", ref, err)
		}
		return nil
	}
	for rest := ref; ; {
		_, after, opened := strings.Cut(rest, "{")
		if !opened {
			return nil
		}
		name, after, closed := strings.Cut(after, "}")
		index := ""
		for _, prefix := range routePlaceholders {
			if part, ok := strings.CutPrefix(name, prefix); ok {
				index = part
			}
		}
		if !closed || index == "" || strings.Trim(index, "0123456789") != "" {
			return fmt.Errorf("messenger %q: only labels of the host ({labels.N}) and parts of the path ({path.N}) can choose the messenger", ref)
		}
		rest = after
	}
}
