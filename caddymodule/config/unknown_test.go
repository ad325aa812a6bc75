package config

import (
	"slices"
	"strings"
	"testing"
)

// An operator who writes an option in the wrong block, or misspells it, learns where it belongs or which one is meant. A secret that is
// written where an option is expected is not repeated.
func TestUnknownOptionsAreExplained(t *testing.T) {
	options := map[string]OptionParser{"identity_key": nil, "issuer": nil, "require_claims": nil, "mode": nil}
	for _, tt := range []struct{ name, want string }{
		{"token_from", `unknown option "token_from"; it belongs into the directive messenger_auth { … }`},
		{"poll_interval", `unknown option "poll_interval"; it belongs into the global option messenger { … } without a name`},
		{"audience", `unknown option "audience"; it belongs into the global option messenger <name> { … }`},
		{"stale_if_error", `unknown option "stale_if_error"; it belongs into the block of jwks, in the global option messenger <name> { … }`},
		{"key", `unknown option "key"; it belongs into the block of store, in the global option messenger { … }`},
		{"user", `unknown option "user"; it belongs into the directive messenger_panel { … }`},
		{"identity_keys", `unknown option "identity_keys"; did you mean identity_key?`},
		{"require_claim", `unknown option "require_claim"; did you mean require_claims?`},
		{"identity-key", `unknown option "identity-key"; did you mean identity_key?`},
		{"Issuer", `unknown option "Issuer"; did you mean issuer?`},
		{"isuer", `unknown option "isuer"; did you mean issuer?`},
		{"kid", `unknown option "kid"; write it behind the key: public_key <key> kid <id>`},
		{"alg", `unknown option "alg"; it belongs into the block of shared_token, or behind the key: public_key <key> alg <name>; in the block of jwks it is algorithms`},
		{"leeway", `unknown option "leeway"; it is called clock_skew`},
		{"jwks_uri", `unknown option "jwks_uri"; it is called jwks`},
		{"cookie", `unknown option "cookie"; write token_from <place> <name> in the directive messenger_auth { … }`},
		{"colour", `unknown option "colour"; it takes: identity_key, issuer, mode, require_claims`},
		{"mst_Q7x2vK9pLm4TnR8wZc6YbHsJd3FgA5eUiOqXrVt1NyWkPz0", "unknown option; the names of options have only letters and _"},
		{"{", "the option on this line takes no block; write what belongs to it behind it, on its line"},
		{"issuer:", "write issuer and its value with a space between them, without : or ="},
		{"issuer=mst_Q7x2", "write issuer and its value with a space between them, without : or ="},
		{"mst=issuer", "unknown option; the names of options have only letters and _"},
		{"c2VjcmV0", "unknown option; the names of options have only letters and _"},
	} {
		if got := unknownOption("x", tt.name, options); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := unknownOption("x", "anything", nil); !strings.HasSuffix(got, "it takes none") {
		t.Errorf("a block without options: got %q", got)
	}
}

// A hint about a name of another gateway never hides where an option of ours belongs, and names one that exists.
func TestHintsForOtherGatewaysDoNotHideOurOptions(t *testing.T) {
	isOurs := func(name string) bool {
		return slices.ContainsFunc(Settings, func(s Setting) bool { return s.Name == name })
	}
	seen := make(map[string]bool)
	for _, other := range calledElsewhere {
		for _, name := range other.names {
			if isOurs(name) || seen[name] {
				t.Errorf("%s is an option of a messenger, or has two hints; one is %q", name, other.hint)
			}
			seen[name] = true
		}
		if ours, renamed := strings.CutPrefix(other.hint, "it is called "); renamed && !isOurs(ours) {
			t.Errorf("%q: the hint is %q, which is not an option", other.names, other.hint)
		}
	}
	for _, name := range []string{"leeway", "iss", "aud", "sub", "typ", "origin", "secret", "jwks_url", "ttl"} {
		if !seen[name] {
			t.Errorf("%s does not have a hint", name)
		}
	}
}
