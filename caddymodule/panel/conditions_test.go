package panel

import (
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// askedElsewhere are the settings without a loss of their own, with the reason.
var askedElsewhere = map[string]string{
	"identity_path":         "it is the other form of identity_key",
	"public_key":            "keyLosses",
	"shared_token":          "the method",
	"shared_token alg":      "keyLosses",
	"previous":              "losses",
	"jwks":                  "keySetLosses",
	"jwks discovery":        "keySetLosses, and the issuer",
	"jwks algorithms":       "keyLosses",
	"jwks ca":               "keySetLosses",
	"jwks header":           "keySetLosses",
	"jwks refresh_interval": "it says when keys are fetched, and drops none",
	"jwks stale_if_error":   "it says what happens if the key server fails later",
	"jwks timeout":          "it says what happens if the key server is slow",
	"contact_claims":        "a token without them is valid",
}

// An operator makes a new setting stricter, and nothing asks: whoever adds a setting says what a change of it makes invalid, or why that
// is nothing.
func TestEverySettingSaysWhatItsChangeMakesInvalid(t *testing.T) {
	for _, s := range config.Settings {
		if (conditionLosses()[s.Name] == nil) == (askedElsewhere[s.Name] == "") {
			t.Errorf("%s is in conditionLosses and in askedElsewhere, or in neither", s.Name)
		}
	}
	if got := len(conditionLosses()) + len(askedElsewhere); got != len(config.Settings) {
		t.Errorf("there are %d losses and reasons for %d settings", got, len(config.Settings))
	}
}
