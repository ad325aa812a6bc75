package caddymodule

import (
	"regexp"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// warnAboutUnused names the configured messengers that no messenger_auth can choose: a directive is missing, or names
// another, and a chat backend may be open. All handlers have to be known.
func (a *App) warnAboutUnused() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.names() {
		if !slices.ContainsFunc(a.routes, func(r Route) bool { return r.MayServe(name) }) {
			a.registry.auditWarning("no messenger_auth uses this messenger, so that nothing verifies its contacts; write messenger_auth "+name+" in front of its chat backend, or remove the messenger",
				zap.String("messenger", name))
		}
	}
}

// refCanName reports whether ref, the messenger of a directive, can become name. A placeholder can become any text.
func refCanName(ref, name string) bool {
	pattern := "^"
	for {
		text, after, found := strings.Cut(ref, "{")
		pattern += regexp.QuoteMeta(strings.ToLower(text))
		if !found {
			break
		}
		pattern += ".*"
		_, ref, _ = strings.Cut(after, "}")
	}
	matched, err := regexp.MatchString(pattern+"$", name)
	return matched || err != nil // too long to be compiled: it is not said that nothing uses name
}
