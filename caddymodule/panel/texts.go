package panel

import (
	"strconv"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

// The texts of the panel that are not in the templates of the folder pages, except those that say what is wrong with a setting: these
// come from package config, because the commands and the admin API have them too.

// What the product calls its methods.
var methodNames = map[string]string{"shared_token": "Shared token", "public_key": "Public key", "jwks": "JWKS URL"}

// connectionsEnded says how many connections were closed.
func connectionsEnded(n int) string {
	return "Connections closed on this gateway: " + strconv.Itoa(n) + "."
}

// What the audit log says, in the words of the panel. Other actions are shown as they are.
var actionNames = map[string]string{
	"messenger created":            "Messenger created",
	"messenger changed":            "Settings changed",
	"messenger imported":           "Messenger imported",
	"shared token generated":       "Shared token generated",
	"shared tokens rotated":        "Shared tokens rotated",
	"shared tokens reset":          "Shared tokens reset",
	"shared token revoked":         "Shared token revoked",
	"expiry of shared tokens set":  "End of shared tokens set",
	"tokens revoked":               "Tokens of contacts revoked",
	"revocation removed":           "Revocation undone",
	"connections ended":            "Connections closed",
	"key set refresh requested":    "Key set fetched",
	"unreadable value discarded":   "Unreadable value discarded",
	"unreadable messenger deleted": "Unreadable messenger deleted",
}

// What the audit log calls the details of an action, in the words of the panel. Other details are not shown.
var changeDetails = map[string]string{
	"kid": "key ID", "expires": "at", "target": "of", "connections": "connections closed", "method": "method", "mode": "mode",
	"result": "result", "revocations": "revocations",
}

// What the values of details are in the words of the panel. Other values are shown as they are.
var detailValues = map[string]string{
	"identity": "a contact", "jti": "one token", "all": "all contacts",
	"shared_token": methodNames["shared_token"], "public_key": methodNames["public_key"], "jwks": methodNames["jwks"],
}

// What the list says about keys that are not simply active.
var stateBadges = map[string]badge{
	admin.KeysNone:       {"No key", "warn"},
	admin.KeysEnding:     {"Key expires soon", "warn"},
	admin.KeysServer:     {"Key server fails", "bad"},
	admin.KeysUnreadable: {"Cannot be read", "bad"},
}
