package authn

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// findTimes says by how much a time is wrong.
func (v *Verifier) findTimes(members map[string][]byte, now time.Time) []Finding {
	var findings []Finding
	dates := make(map[string]time.Time)
	for _, name := range []string{"exp", "nbf", "iat"} {
		value := members[name]
		if value == nil {
			continue
		}
		date, rej := numericDate(value)
		switch {
		case rej == nil:
			dates[name] = date
		case rej.Reason == reasonMilliseconds:
			findings = append(findings, Finding{name + " is in milliseconds.", "Divide by 1000: a NumericDate counts seconds (in JavaScript Math.floor(Date.now() / 1000))."})
		case value[0] == '"':
			findings = append(findings, Finding{name + " is a string.", "Write it as a JSON number of seconds since 1970, without quotes."})
		default:
			findings = append(findings, Finding{name + " is not a date.", "Write it as a JSON number of seconds since 1970."})
		}
	}
	if exp, found := dates["exp"]; found && !now.Before(exp.Add(v.policy.ClockSkew)) {
		findings = append(findings, Finding{fmt.Sprintf("exp passed %s ago (%s; it is %s here).", ago(now.Sub(exp)), stamp(exp), stamp(now)),
			"Fetch a fresh token. If it is fresh, the site's clock is behind by about this time, or exp is set too early."})
	}
	for _, name := range []string{"nbf", "iat"} {
		if date, found := dates[name]; found && date.After(now.Add(v.policy.ClockSkew)) {
			findings = append(findings, Finding{fmt.Sprintf("%s is %s ahead (%s; it is %s here), and clock_skew is %s.", name, ago(date.Sub(now)), stamp(date), stamp(now), v.policy.ClockSkew),
				"Synchronize the clock of the site, or of this machine, with NTP; or leave " + name + " out."})
		}
	}
	iat, found := dates["iat"]
	if limit := v.policy.MaxLifetime; limit > 0 && len(findings) == 0 && found && dates["exp"].After(iat.Add(limit)) {
		findings = append(findings, Finding{fmt.Sprintf("The token is valid for %s, and max_lifetime is %s.", dates["exp"].Sub(iat), limit), "Set exp to at most iat plus max_lifetime."})
	}
	return findings
}

func ago(d time.Duration) time.Duration { return d.Round(time.Second) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// findValue compares the value of a claim, or each entry of an array, with the configured values.
func findValue(claim string, value []byte, configured []string, option string) []Finding {
	texts := claimList(value)
	if len(texts) == 0 {
		return []Finding{{"The token does not have the claim " + claim + ".", fmt.Sprintf("Add it; the configured values are %q.", configured)}}
	}
	for _, text := range texts {
		for _, want := range configured {
			var difference string
			switch {
			case text == want:
				return nil // the type of the claim is wrong, which the reason says
			case strings.TrimSuffix(text, "/") == strings.TrimSuffix(want, "/"):
				difference = "by the final slash"
			case strings.EqualFold(text, want):
				difference = "in upper and lower case"
			case withoutScheme(text) == withoutScheme(want):
				difference = "in the scheme"
			default:
				continue
			}
			return []Finding{{fmt.Sprintf("%s %q and the configured %q differ %s.", claim, text, want, difference), "Use the same spelling; they are compared exactly."}}
		}
	}
	return []Finding{{fmt.Sprintf("%s is %q; the configured values are %q.", claim, texts, configured), "Sign with one of these, or add the token's value to " + option + "."}}
}

// claimList returns the texts of an array's entries, or the text of any other value alone.
func claimList(value []byte) []string {
	var entries []json.RawMessage
	if value == nil || value[0] != '[' || json.Unmarshal(value, &entries) != nil {
		entries = []json.RawMessage{value}
	}
	var texts []string
	for _, entry := range entries {
		if claim := claimText(entry); claim.Present {
			texts = append(texts, claim.Text)
		}
	}
	return texts
}

func withoutScheme(text string) string {
	return strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
}

func (v *Verifier) findRequired(members map[string][]byte) []Finding {
	required := v.policy.RequiredClaims
	if v.policy.MaxLifetime > 0 {
		for _, name := range []string{"exp", "iat"} {
			if !slices.Contains(required, name) {
				required = append(slices.Clone(required), name)
			}
		}
	}
	var missing []string
	for _, name := range required {
		if value := members[name]; value == nil || strictjson.IsNull(value) {
			missing = append(missing, name)
		}
	}
	return []Finding{{fmt.Sprintf("These claims are absent or null: %q.", missing), "Add them to the token."}}
}

// plausibleIdentities are usual names of the claim with the primary key of a customer, folded.
var plausibleIdentities = []string{"identity", "sub", "userid", "uid", "id", "contactid", "customerid", "email", "username", "user", "preferredusername"}

// findIdentity looks for the claim that was probably meant.
func (v *Verifier) findIdentity(members map[string][]byte) []Finding {
	key := v.policy.IdentityKey
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if foldName(name) == foldName(key) {
			return []Finding{{fmt.Sprintf("The token does not have the claim %q; it has %q, spelled differently.", key, name), "Use the same spelling; names are compared exactly."}}
		}
		if value := members[name]; value[0] == '{' {
			inner := false
			_ = strictjson.Object(value, func(member, _ []byte) { inner = inner || string(member) == key })
			if inner {
				return []Finding{{fmt.Sprintf("The claim %q is inside %q.", key, name), "Put it at the top level of the token."}}
			}
		}
	}
	for _, plausible := range plausibleIdentities {
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if foldName(name) == plausible {
				return []Finding{{fmt.Sprintf("The token does not have the claim %q; it has %q, which may contain the identity.", key, name), fmt.Sprintf("Sign the identity as %q, or configure identity_key %s.", key, name)}}
			}
		}
	}
	return []Finding{{fmt.Sprintf("The token does not have the claim %q; it has %q.", key, slices.Sorted(maps.Keys(members))), "Add the contact's primary key under this name."}}
}

func foldName(name string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
}
