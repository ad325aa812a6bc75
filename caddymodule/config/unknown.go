package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A place is a block of the Caddyfile with its options, for errors about options in the wrong block.
type place struct {
	block   string   // the beginning of the block's name in ParseBlock
	written string   // the block as it is written in a Caddyfile
	options []string // without those of Settings
}

var places = []place{
	{"messenger ", "the global option messenger <name> { … }", nil},
	{"jwks", "the block of jwks, in the global option messenger <name> { … }", nil},
	{"messenger", "the global option messenger { … } without a name", []string{"poll_interval", "jwks_internal_hosts", "store", "store_max_age", "token_cache_size", "assertion_issuer"}},
	{"messenger_auth", "the directive messenger_auth { … }", []string{"mode", "token_from", "forward_token", "identity_header", "messenger_header", "claims_header", "identity_encoding",
		"claim_header", "websocket_rejection", "logout_path", "cors", "contact_limit", "assertion", "stream_types", "ticket_path", "ticket_lifetime"}},
	{"messenger_panel", "the directive messenger_panel { … }", []string{"help", "sign_out", "user"}},
	{"contact_limit", "the block of contact_limit, in the directive messenger_auth { … }", []string{"connections", "requests"}},
	{"assertion", "the block of assertion, in the directive messenger_auth { … }", []string{"lifetime", "header", "alg"}},
	{"store", "the block of store, in the global option messenger { … }", []string{"key"}},
}

// calledElsewhere has names that other gateways and JWT libraries use for one of our options, or for a part of an option, with what to
// write instead.
var calledElsewhere = []struct {
	names []string
	hint  string
}{
	{[]string{"kid", "key_id", "keyid"}, "write it behind the key: public_key <key> kid <id>"},
	{[]string{"alg", "algorithm"}, "it belongs into the block of shared_token, or behind the key: public_key <key> alg <name>; in the block of jwks it is algorithms"},
	{[]string{"encoding"}, "write it behind the placeholder: shared_token {env.NAME} base64"},
	{[]string{"leeway", "skew", "clock_leeway", "clock_tolerance", "tolerance"}, "it is called clock_skew"},
	{[]string{"iss", "issuer_whitelist"}, "it is called issuer"},
	{[]string{"aud", "audience_whitelist"}, "it is called audience"},
	{[]string{"sub", "identity", "claim", "user_claim", "user_claims"}, "it is called identity_key"},
	{[]string{"typ"}, "it is called token_type"},
	{[]string{"origin", "origins", "cors_origin"}, "it is called allowed_origin"},
	{[]string{"secret", "hmac_secret", "jwt_secret", "sign_key"}, "it is called shared_token"},
	{[]string{"jwks_url", "jwks_uri", "jwk_url", "remote_jwks", "http_uri", "auth_jwt_key_request"}, "it is called jwks"},
	{[]string{"local_jwks", "inline_string", "auth_jwt_key_file"}, "write each key as public_key <key> kid <id>"},
	{[]string{"audiences"}, "it is called audience"},
	{[]string{"auth_jwt"}, "write messenger_auth <messenger> in the site, in front of its backend"},
	{[]string{"claim_to_headers", "auth_jwt_claim_set"}, "write claim_header <claim> <header> in the directive messenger_auth { … }"},
	{[]string{"forward"}, "write forward_token in the directive messenger_auth { … }"},
	{[]string{"auth_jwt_leeway", "clock_skew_seconds"}, "it is called clock_skew"},
	{[]string{"require_expiration"}, "write require_claims exp"},
	{[]string{"max_age", "ttl"}, "it is called max_lifetime"},
	{[]string{"meta_claims"}, "write claim_header <claim> <header> in the directive messenger_auth { … }"},
	{[]string{"from_header", "from_headers", "from_params", "from_cookies", "from_query", "cookie", "query", "websocket_protocol"}, "write token_from <place> <name> in the directive messenger_auth { … }"},
	{[]string{"rate_limit"}, "write contact_limit { … } in the directive messenger_auth { … }"},
}

// has reports whether the option name belongs into p.
func (p place) has(name string) bool {
	for _, s := range Settings {
		block, inner, nested := strings.Cut(s.Name, " ")
		if !nested && p.block == "messenger " && s.Name == name || nested && p.block == block && inner == name {
			return true
		}
	}
	return slices.Contains(p.options, name)
}

// unknownOption is the error for an option that a block does not have. It names the block to which the option belongs, or the option
// that was probably meant. A text that cannot be the name of an option is not repeated, because it may be a misplaced secret.
func unknownOption(block, name string, options map[string]OptionParser) string {
	if len(name) > 40 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" {
		return notAName(name, options)
	}
	unknown := fmt.Sprintf("unknown option %q", name)
	for _, other := range calledElsewhere {
		if slices.Contains(other.names, name) {
			return unknown + "; " + other.hint
		}
	}
	for _, p := range places {
		if p.has(name) {
			return unknown + "; it belongs into " + p.written
		}
	}
	best := Nearest(name, slices.Sorted(maps.Keys(options)))
	switch {
	case len(options) == 0:
		return unknown + "; it takes none"
	case best != "":
		return unknown + "; did you mean " + best + "?"
	}
	return unknown + "; it takes: " + strings.Join(slices.Sorted(maps.Keys(options)), ", ")
}

// notAName is the end of the error for what cannot be the name of an option. It repeats none of it but the name of a known option.
func notAName(text string, options map[string]OptionParser) string {
	if text == "{" {
		return "the option on this line takes no block; write what belongs to it behind it, on its line"
	}
	if i := strings.IndexAny(text, ":="); i >= 0 {
		if _, known := options[text[:i]]; known {
			return "write " + text[:i] + " and its value with a space between them, without : or ="
		}
	}
	return "unknown option; the names of options have only letters and _"
}

// Nearest returns the known name that was probably meant, or "".
func Nearest(name string, known []string) string {
	folded := foldOption(name)
	best, least := "", 3 // more changes than two make another word
	for _, option := range known {
		if n := changes(folded, foldOption(option)); n < least {
			best, least = option, n
		}
	}
	return best
}

func foldOption(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// changes returns how many letters have to be added, removed or replaced to make b of a (Levenshtein).
func changes(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1, diagonal)
			if a[i] != b[j] {
				next = min(row[j]+1, row[j+1]+1, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
