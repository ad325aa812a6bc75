package diagnose

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// findAudience looks for a token that was made for another purpose before it compares spellings.
func (f *finder) findAudience() {
	if f.payload["aud"] == nil && f.payload["client_id"] != nil && text(f.payload, "token_use") == "access" {
		f.add(cause.AudienceOfCognito, "configured are %q", f.policy.Audiences)
		return
	}
	if f.findSpelling("aud", f.policy.Audiences) {
		return
	}
	f.findPurpose()
	f.findOtherValue("aud", f.policy.Audiences, "audience")
}

// findPurpose tells ID tokens from access tokens, by the claims that only one of them has.
func (f *finder) findPurpose() {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return f.payload[name] != nil })
	}
	use := text(f.payload, "token_use")
	switch {
	case use == "access", has("scope", "scp"), strings.HasSuffix(ascii.Lower(text(f.header, "typ")), "at+jwt"):
		f.add(cause.AccessTokenSent, "")
	case use == "id", has("at_hash", "c_hash", "nonce"):
		f.add(cause.IDTokenSent, "")
	}
}

// findValue compares the value of a claim, or each entry of an array, with the configured values.
func (f *finder) findValue(claim string, configured []string, option string) {
	if f.findSpelling(claim, configured) {
		return
	}
	if value := text(f.payload, claim); slices.ContainsFunc(configured, func(want string) bool { return isOtherEnvironment(value, want) }) {
		f.add(cause.OtherEnvironment, "%s is %s; configured are %q", claim, f.quote(value), configured)
	}
	f.findOtherValue(claim, configured, option)
}

// findSpelling looks for a value that differs from a configured one in a way that people do not see.
func (f *finder) findSpelling(claim string, configured []string) (found bool) {
	for _, value := range texts(f.payload[claim]) {
		for _, want := range configured {
			var c cause.Cause
			switch {
			case value == want:
				continue // the type of the claim is wrong, which the reason says
			case strings.TrimSuffix(value, "/") == strings.TrimSuffix(want, "/"):
				c = cause.ValueSlash
			case strings.EqualFold(value, want):
				c = cause.ValueCase
			case withoutScheme(value) == withoutScheme(want):
				c = cause.ValueScheme
			default:
				continue
			}
			f.add(c, "%s is %s; configured is %q", claim, f.quote(value), want)
			return true
		}
	}
	return false
}

func (f *finder) findOtherValue(claim string, configured []string, option string) {
	values := texts(f.payload[claim])
	if len(values) == 0 {
		f.add(cause.ValueAbsent, "%s; the configured values are %q", claim, configured)
		return
	}
	if !slices.ContainsFunc(values, func(value string) bool { return slices.Contains(configured, value) }) {
		f.add(cause.ValueOther, "%s is [%s]; the configured values of %s are %q", claim, f.quote(values...), option, configured)
	}
}

// texts returns the texts of an array's entries, or the text of a string alone.
func texts(value []byte) (list []string) {
	if value == nil {
		return nil
	}
	if one, ok := strictjson.String(value); ok {
		return []string{one}
	}
	var entries []json.RawMessage
	if json.Unmarshal(value, &entries) != nil {
		return nil
	}
	for _, entry := range entries {
		if text, ok := strictjson.String(entry); ok {
			list = append(list, text)
		}
	}
	return list
}

func withoutScheme(text string) string {
	return strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
}

func (f *finder) findRequired() {
	required := f.policy.RequiredClaims
	if f.policy.MaxLifetime > 0 {
		for _, name := range []string{"exp", "iat"} {
			if !slices.Contains(required, name) {
				required = append(slices.Clone(required), name)
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(required), func(name string) bool {
		value := f.payload[name]
		return value != nil && !bytes.Equal(value, []byte("null"))
	})
	f.add(cause.ClaimsAbsent, "they are %q", missing)
	f.findPurpose()
}

// plausibleIdentities are usual names of the claim with the primary key of a customer, folded.
var plausibleIdentities = []string{"identity", "sub", "userid", "uid", "id", "contactid", "customerid", "email", "username", "user", "preferredusername"}

// findIdentity looks for the claim that was probably meant.
func (f *finder) findIdentity() {
	if f.policy.IdentityPath != nil {
		f.findPath(f.policy.IdentityPath)
		return
	}
	key := f.policy.IdentityKey
	names := slices.Sorted(maps.Keys(f.payload))
	for _, name := range names {
		if foldName(name) == foldName(key) {
			f.add(cause.IdentitySpelled, "it has %s; identity_key is %q", f.quoteNames(name), key)
			return
		}
		if value := f.payload[name]; value[0] == '{' {
			inner := false
			_ = strictjson.Object(value, func(member, _ []byte) { inner = inner || string(member) == key })
			if inner {
				f.add(cause.IdentityNested, "%q is inside %s", key, f.quoteNames(name))
				return
			}
		}
	}
	if slices.Contains([]string{"email", "name", "preferred_username"}, key) {
		f.findPurpose()
	}
	for _, plausible := range plausibleIdentities {
		for _, name := range names {
			if foldName(name) == plausible {
				f.add(cause.IdentityElsewhere, "it does not have %q; it has %s", key, f.quoteNames(name))
				return
			}
		}
	}
	f.add(cause.IdentityAbsent, "it does not have %q; it has [%s]", key, f.quoteNames(names...))
}

// findPath says how far an identity_path leads into the token.
func (f *finder) findPath(path strictjson.Pointer) {
	value := f.payload[path[0]]
	for i := 1; i < len(path) && value != nil; i++ {
		if value = path[i : i+1].Find(value); value == nil {
			f.add(cause.IdentityAbsent, "there is no %q at %q", path[i], path[:i])
			return
		}
	}
	f.add(cause.IdentityAbsent, "it does not have %q", path[0])
}

func foldName(name string) string {
	return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(name))
}
