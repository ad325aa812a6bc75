package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/diagnose"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// The answers of the admin API as people read them. Values in them come from clients, site owners and key servers: they are
// printed with printable.Printf, which keeps each on its line.

func explanationText(e *admin.Explanation) string {
	var b strings.Builder
	mode := ""
	if e.Mode != config.ModeRequired {
		mode = ", mode " + string(e.Mode)
	}
	printable.Printf(&b, "messenger %s (%s%s)\n\n", e.Messenger, e.Method, mode)
	for _, check := range e.Checks {
		mark := map[string]string{"passed": "ok  ", "failed": "FAIL", "not reached": "-   "}[check.Outcome]
		printable.Printf(&b, "  %s  %s", mark, check.Name)
		if check.Reason != "" {
			printable.Printf(&b, ": %s", check.Reason)
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	if !e.Accepted {
		printable.Printf(&b, "refused: %d %s\n  %s\n", e.Status, e.Code, e.Detail)
		for _, finding := range e.Findings {
			printable.Printf(&b, "\n  cause: %s\n  fix:   %s\n", finding.Cause, finding.Fix)
		}
		if e.Mode == config.ModeReport || e.Mode == config.ModeOff {
			printable.Printf(&b, "\nThe mode of the messenger is %s: the request passes anyway, without an identity.\n", e.Mode)
		}
		return b.String()
	}
	if len(e.Upstream) == 0 {
		b.WriteString("accepted, but the backend receives no identity: every messenger_auth of this messenger has the mode off\n")
		return b.String()
	}
	b.WriteString("accepted: the backend receives\n")
	for i, upstream := range e.Upstream {
		if i > 0 {
			b.WriteString("or, by another messenger_auth of this messenger,\n")
		}
		for _, header := range upstream.Headers {
			printable.Printf(&b, "  %s: %s\n", header.Name, header.Value)
		}
	}
	return b.String()
}

func keysText(d *admin.KeysInfo) string {
	var b strings.Builder
	printable.Printf(&b, "messenger %s (%s) from %s\n", d.Messenger, d.Method, strings.Join(d.Sources, ", "))
	if p := d.Previous; p != nil {
		printable.Printf(&b, "until %s also %s, the previous method, from %s\n", p.Until.UTC().Format(time.RFC3339), p.Method, strings.Join(p.Sources, ", "))
	}
	b.WriteByte('\n')
	for _, key := range d.Keys {
		kid := "no kid"
		if key.KeyID != "" {
			kid = fmt.Sprintf("kid %q", key.KeyID)
		}
		printable.Printf(&b, "  %s  %d bits  %s", key.Algorithm, key.Bits, kid)
		if key.SHA256 != "" {
			printable.Printf(&b, "  sha256 %s…", key.SHA256[:min(16, len(key.SHA256))])
		}
		if key.Label != "" {
			printable.Printf(&b, "  label %q", key.Label)
		}
		if key.MadeBy != "" {
			printable.Printf(&b, "  made by %s", key.MadeBy)
		}
		b.WriteByte('\n')
	}
	if !d.Usable {
		b.WriteString("  no key is usable: requests are answered with keys_unavailable\n")
	}
	for _, line := range []struct {
		what string
		when *time.Time
	}{{"fetched", d.Fetched}, {"fresh until", d.Fresh}, {"last attempt", d.Tried}, {"next attempt", d.Next}} {
		if line.when != nil {
			distance := time.Until(*line.when)
			relative := "in " + diagnose.Duration(distance)
			if distance < 0 {
				relative = diagnose.Duration(distance) + " ago"
			}
			printable.Printf(&b, "\n  %-12s  %s (%s)", line.what, line.when.Format(time.RFC3339), relative)
		}
	}
	if d.Fetched != nil || d.Tried != nil {
		b.WriteByte('\n')
	}
	if d.Error != "" {
		printable.Printf(&b, "  last error    %s\n", d.Error)
	}
	for _, entry := range d.Omitted {
		kid := ""
		if entry.KeyID != "" {
			kid = fmt.Sprintf(", kid %q", entry.KeyID)
		}
		printable.Printf(&b, "  not used      entry %d%s: it %s\n", entry.Index, kid, entry.Reason)
	}
	return b.String()
}

func messengersText(l []admin.Description, first bool) string {
	if len(l) == 0 {
		return "no messengers\n"
	}
	return table(func(w io.Writer) {
		if first {
			fmt.Fprintln(w, "MESSENGER\tMETHOD\tMODE\tFROM\tCHANGED")
		}
		for _, m := range l {
			printable.Printf(w, "%s\t%s\t%s\t%s\t%s\n", m.Name, m.Method, m.Mode, m.Source, date(m.Changed))
		}
	})
}

func messengerText(m *admin.Description) string {
	from := "the configuration"
	if m.Source == registry.SourceStored {
		from = "the storage, revision " + m.Revision + ", changed " + date(m.Changed)
	}
	settings, _ := json.MarshalIndent(m.Settings, "", "  ") // settings were read from JSON
	var b strings.Builder
	printable.Printf(&b, "messenger %s (%s, mode %s), from %s\n\n", m.Name, m.Method, m.Mode, from)
	b.Write(settings) // JSON, in which a value has no line breaks
	b.WriteByte('\n')
	for _, warning := range m.Warnings {
		printable.Printf(&b, "\nwarning: %s\n", warning)
	}
	return b.String()
}

func readinessText(r *metrics.Readiness) string {
	var b strings.Builder
	printable.Printf(&b, "messenger %s, mode %s, counted on this node since %s\n", r.Messenger, r.Mode, r.Since.Format(time.RFC3339))
	for _, w := range r.Windows {
		printable.Printf(&b, "\n  last %-3s  %s\n", w.Window, w.Summary())
		if w.Requests > 0 {
			printable.Printf(&b, "    %10d  with a valid token\n", w.Valid)
		}
		for _, code := range w.CodesByCount() {
			printable.Printf(&b, "    %10d  %s\n", w.Codes[code], code)
		}
	}
	return b.String()
}

func connectionsText(d *admin.OpenConnections) string {
	var b strings.Builder
	printable.Printf(&b, "%d open\n", d.Open)
	for _, m := range d.Messengers {
		printable.Printf(&b, "\n  %s  %d open\n    the oldest since %s", m.Messenger, m.Open, m.Oldest.Format(time.RFC3339))
		if m.NextEnd != nil {
			printable.Printf(&b, ", the next ends by %s", m.NextEnd.Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func tokensText(r *admin.TokenList) string {
	if len(r.Tokens) == 0 {
		return "messenger " + r.Messenger + " has no shared token yet; generate one: caddy messenger tokens generate " + r.Messenger + "\n"
	}
	var b strings.Builder
	for i, t := range r.Tokens {
		end := "no end date"
		if t.End != nil {
			end = "until " + date(t.End)
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		printable.Printf(&b, "%s  %s, %s\n", t.KeyID, t.State, end)
		if t.Label != "" {
			printable.Printf(&b, "  label        %s\n", t.Label)
		}
		printable.Printf(&b, "  %-11s  %s", t.Origin, date(&t.Created))
		if t.MadeBy != "" {
			printable.Printf(&b, " by %s", t.MadeBy)
		}
		printable.Printf(&b, "\n  last used    %s\n", hourOf(t.LastUsed))
		if t.Fingerprint != "" {
			printable.Printf(&b, "  fingerprint  %s\n", t.Fingerprint)
		}
	}
	return b.String()
}

func hourOf(t *time.Time) string {
	if t == nil {
		return "not yet"
	}
	return t.UTC().Format("2006-01-02 15h MST")
}

func revocationsText(l *[]revocation.Revocation) string {
	if len(*l) == 0 {
		return "nothing is revoked\n"
	}
	var b strings.Builder
	for _, v := range *l {
		b.WriteString(v.Kind())
		if value := v.Value(); value != "" {
			printable.Printf(&b, " %s", strconv.Quote(value))
		}
		if v.Before != nil {
			printable.Printf(&b, ", issued before %s", date(v.Before))
		}
		until := "for good"
		if v.Until != nil {
			until = "until " + date(v.Until)
		}
		printable.Printf(&b, "\n  revoked %s, kept %s\n", date(&v.Created), until)
	}
	return b.String()
}
