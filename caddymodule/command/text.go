package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// show prints what as JSON, or as text says it to people.
func show[T any](w io.Writer, asJSON bool, what T, text func(T) string) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(what)
	}
	_, err := io.WriteString(w, text(what))
	return err
}

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
		switch e.Mode {
		case config.ModeReport:
			b.WriteString("\nThe messenger's mode is report: the request goes through all the same, without an identity.\n")
		case config.ModeOff:
			b.WriteString("\nThe messenger's mode is off: the request goes through all the same, without an identity.\n")
		}
		return b.String()
	}
	if len(e.Upstream) == 0 {
		b.WriteString("accepted, but the upstream gets no identity: the mode is off wherever this messenger is used\n")
		return b.String()
	}
	b.WriteString("accepted: the upstream gets\n")
	for i, upstream := range e.Upstream {
		if i > 0 {
			b.WriteString("or, from another messenger_auth of this messenger,\n")
		}
		for _, header := range upstream.Headers {
			printable.Printf(&b, "  %s: %s\n", header.Name, header.Value)
		}
	}
	return b.String()
}

func keysText(d *admin.KeysInfo) string {
	var b strings.Builder
	printable.Printf(&b, "messenger %s (%s) from %s\n\n", d.Messenger, d.Method, strings.Join(d.Sources, ", "))
	for _, key := range d.Keys {
		kid := "no kid"
		if key.KeyID != "" {
			kid = fmt.Sprintf("kid %q", key.KeyID)
		}
		printable.Printf(&b, "  %s  %d bits  %s", key.Algorithm, key.Bits, kid)
		if key.SHA256 != "" {
			printable.Printf(&b, "  sha256 %s…", key.SHA256[:min(16, len(key.SHA256))])
		}
		b.WriteByte('\n')
	}
	if !d.Usable {
		b.WriteString("  no key can be used: requests are answered with keys_unavailable\n")
	}
	for _, line := range []struct {
		what string
		when *time.Time
	}{{"fetched", d.Fetched}, {"fresh until", d.Fresh}, {"last attempt", d.Tried}, {"next attempt", d.Next}} {
		if line.when != nil {
			distance := time.Until(*line.when).Round(time.Second)
			relative := "in " + distance.String()
			if distance < 0 {
				relative = (-distance).String() + " ago"
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

func enumerate(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
