package command

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// Help is read in a terminal of 80 columns, which breaks longer lines in the middle of a word. Usage lines and flags may be longer.
func TestHelpFitsIntoATerminal(t *testing.T) {
	checked := 0
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		checked++
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
				t.Errorf("%s: a line has %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			if n := len("  ") + sub.NamePadding() + len(" ") + utf8.RuneCountInString(sub.Short); n > columns {
				t.Errorf("%s: its line in the list of commands has %d columns: %s", sub.CommandPath(), n, sub.Short)
			}
			check(sub)
		}
	}
	root := &cobra.Command{Use: "messenger"}
	addCommands(root)
	check(root)
	if checked < 20 {
		t.Errorf("only %d commands were checked", checked)
	}
}

// So are lists, as far as the gateway decides how long their values are.
func TestListsFitIntoATerminal(t *testing.T) {
	now := time.Now()
	meter := metrics.NewMeter()
	for range 1_000_000 {
		meter.Record("token_lifetime_too_long", now.Unix())
	}
	for name, text := range map[string]string{
		"tokens": tokensText(&admin.TokenList{Messenger: "support", Tokens: []admin.TokenInfo{
			{KeyID: "2026-11-28-pkejxr", Label: strings.Repeat("l", ledger.MaxLabel), Fingerprint: "ea7d8ee6d8d65883", Origin: admin.TokenGenerated, State: admin.TokenTooShort,
				Created: now, End: &now, LastUsed: &now, MadeBy: "panel, operator"},
			{KeyID: "2026-11-28-pkejxr", Origin: admin.TokenImported, State: admin.TokenActive, Created: now},
		}}),
		"revocations": revocationsText(&[]revocation.Revocation{
			{TokenID: "0b6f4d3e-6d8f-4f6e-8f38-2f3c51f9f0a7", Created: now, Until: &now},
			{Identity: strings.Repeat("m", 30), Before: &now, Created: now},
			{Before: &now, Created: now, Until: &now},
		}),
		"connections": connectionsText(&admin.OpenConnections{Open: 3, Messengers: []admin.Connected{{Messenger: "support", Open: 3, Oldest: &now, NextEnd: &now}}}),
		"readiness":   readinessText(&metrics.Readiness{Messenger: "support", Mode: "report", Since: now, Windows: meter.Windows(now)}),
		"messengers":  messengersText([]admin.Description{{Name: "support", Method: "shared_token", Mode: "required", Source: "config", Changed: &now}}, true),
	} {
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
				t.Errorf("%s: a line has %d columns: %s", name, n, line)
			}
		}
	}
}
