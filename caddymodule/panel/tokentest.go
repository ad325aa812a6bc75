package panel

import (
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/diagnose"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// The page Token test: which checks a token passes, and what the code of a refusal means.

type testView struct {
	view
	Result *admin.Explanation
	Claims []claimView
}

func (v *visit) showTest() error { return v.renderTest(http.StatusOK, nil, nil) }

func (v *visit) renderTest(status int, result *admin.Explanation, wrong []fieldError) error {
	d, err := v.currentStatus()
	if err != nil {
		return err
	}
	page := &testView{view: v.messengerView("test", d), Result: result, Claims: claimViews(result)}
	page.Errors = wrong
	v.render(status, "test", page)
	return nil
}

// testToken verifies a token as the gateway would, and shows how. The token itself is not in the answer. Which messenger's key
// made a signature is shown only if the operator may see all messengers.
func (v *visit) testToken(sent form) error {
	token := sent.get("token")
	if token == "" {
		return v.renderTest(http.StatusUnprocessableEntity, nil, []fieldError{{"token", textEmptyToken}})
	}
	m, err := v.app.LookUp(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	result, err := v.app.Explain(v.r.Context(), m, token, !v.Scoped())
	if err != nil {
		return err
	}
	if reason := v.fetchFinding(m, result); reason != nil {
		result.Findings = reason
	}
	for i := range result.Findings {
		f := &result.Findings[i]
		f.Cause, f.Fix = byLabel(f.Cause), byLabel(f.Fix)
	}
	return v.renderTest(http.StatusOK, result, nil)
}

// optionNames finds the names of options in a text, as far as they have an underscore: others could be English words. A quoted name
// is a value, and is not found.
var optionNames = sync.OnceValue(func() *regexp.Regexp {
	var names []string
	for _, s := range config.Settings {
		if s.Label != "" && strings.Contains(s.Name, "_") && !strings.Contains(s.Name, " ") {
			names = append(names, s.Name)
		}
	}
	return regexp.MustCompile(`(^|[^\w"])(` + strings.Join(names, "|") + `)($|[^\w"])`)
})

// byLabel returns a text about options with the labels that these have on the page Security.
func byLabel(text string) string {
	for _, s := range config.Settings {
		if !strings.Contains(text, s.Name) {
			continue
		}
		text = optionNames().ReplaceAllStringFunc(text, func(found string) string {
			return strings.Replace(found, s.Name, "“"+s.Label+"”", 1)
		})
	}
	return text
}

// fetchFinding returns a finding that says why there is no key. It replaces findings that may name addresses in the gateway's
// network.
func (v *visit) fetchFinding(m *registry.Messenger, result *admin.Explanation) []diagnose.Finding {
	if result.Code != authn.KeysUnavailable || m.KeySet == nil {
		return nil
	}
	text := textNeverFetched
	if err := m.KeySet.Status().Err; err != nil {
		text = cause.Sentence(textCannotFetch + keyserver.Reason(err).Error())
	}
	return []diagnose.Finding{{Name: cause.KeysNotFetched.String(), Cause: text, Fix: textFixKeySet}}
}
