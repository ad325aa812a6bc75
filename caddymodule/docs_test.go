package caddymodule_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ticket"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// docsText returns a page of the documentation with its line breaks as blanks, so that a sentence is found wherever it is broken.
func docsText(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile("docs/" + page + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\n", " ")
}

// The table of options has the defaults that the code has.
func TestDocsHaveTheDefaults(t *testing.T) {
	defaults := map[string]string{
		"identity_header":  upstream.DefaultIdentityHeader,
		"messenger_header": upstream.DefaultMessengerHeader,
		"claims_header":    upstream.DefaultClaimsHeader,
		"poll_interval":    config.DurationText(registry.DefaultPollInterval),
		"token_cache_size": fmt.Sprint(registry.DefaultTokenCacheSize),
	}
	for _, s := range config.Settings {
		if regexp.MustCompile(`^([0-9]+[smh]|[A-Z]+[0-9]+|required)$`).MatchString(s.Default) {
			defaults[s.Name[strings.LastIndexByte(s.Name, ' ')+1:]] = s.Default
		}
	}
	if len(defaults) < 12 {
		t.Errorf("only %d defaults are known: %v", len(defaults), defaults)
	}
	text, err := os.ReadFile("docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range defaults {
		row := regexp.MustCompile("(?m)^\\| `" + option + "[ `][^|]*\\|[^|]*\\| ([^|]*) \\|").FindStringSubmatch(string(text))
		if row == nil || row[1] != "`"+want+"`" {
			t.Errorf("the table says of %s %q, want the default %s", option, row, want)
		}
	}
}

// Numbers of the text are those of the code.
func TestDocsHaveTheBounds(t *testing.T) {
	duration := func(d time.Duration) string { return "`" + config.DurationText(d) + "`" }
	thousands := func(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
	for sentence, page := range map[string]string{
		"at most " + duration(config.MaxClockSkew):                                                                          "options",
		duration(authn.MinRefreshInterval) + " to " + duration(authn.MaxRefreshInterval):                                    "options",
		fmt.Sprintf("up to %d keys", config.MaxPublicKeys):                                                                  "options",
		"`1s` to " + duration(ticket.MaxLifetime):                                                                           "options",
		fmt.Sprintf("The token is longer than %d KiB", authn.MaxToken>>10):                                                  "errors",
		fmt.Sprintf("`%s` and %d more characters", sharedtoken.Prefix, len(sharedtoken.Generate())-len(sharedtoken.Prefix)): "runtime",
		fmt.Sprintf("or %d for HS384 and %d for HS512", len(sharedtoken.GenerateFor(48))-len(sharedtoken.Prefix), len(sharedtoken.GenerateFor(64))-len(sharedtoken.Prefix)): "runtime",
		fmt.Sprintf("at most %d bytes of printable text", ledger.MaxLabel):                                                                                                  "runtime",
		"There is room for " + thousands(ledger.MaxRevocations) + " in each messenger":                                                                                      "runtime",
		fmt.Sprintf("at most %d (`?limit=`)", admin.MaxListed):                                                                                                              "runtime",
		"up to " + thousands(registry.MaxSorted) + " names take":                                                                                                            "runtime",
		fmt.Sprintf("makes up to %d revocations", admin.MaxRevoked):                                                                                                         "runtime",
		fmt.Sprintf("imports up to %d lines", admin.MaxImported):                                                                                                            "runtime",
	} {
		if !strings.Contains(docsText(t, page), sentence) {
			t.Errorf("the page %s does not say %q", page, sentence)
		}
	}
}
