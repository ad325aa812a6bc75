package panel

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

// The texts of the panel that are not in the templates of the folder pages, except those that say what is wrong with a setting: these
// come from package config, because the commands and the admin API have them too. Maps are made for the
// first page that needs them: most programs with this module show none.

// What the product calls its methods.
var methodNames = map[string]string{"shared_token": "Shared token", "public_key": "Public key", "jwks": "JWKS"}

// errorTitle returns the title of a page that says what went wrong with a request, which may have been meant to change something.
func errorTitle(status int, changes bool) string {
	if !changes && status == http.StatusBadRequest {
		return "This page cannot be shown"
	}
	switch status {
	case http.StatusNotFound:
		return "There is no such page"
	case http.StatusForbidden:
		return "No access"
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity, http.StatusBadRequest:
		return "Nothing was changed"
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusRequestEntityTooLarge:
		return "This form cannot be used"
	case http.StatusTooManyRequests:
		return "The gateway is busy"
	case http.StatusServiceUnavailable:
		return "The storage cannot be reached"
	}
	return "Something went wrong"
}

// connectionsEnded says how many connections were closed.
func connectionsEnded(n int) string {
	return "Connections closed on this gateway: " + strconv.Itoa(n) + "."
}

// What the audit log says, in the words of the panel. Other actions are shown in its own.
var actionNames = sync.OnceValue(func() map[string]string {
	return map[string]string{ //nolint:gosec // names of actions, no credentials
		"messenger changed":           "Settings changed",
		"expiry of shared tokens set": "End of shared tokens set",
		"tokens revoked":              "Tokens of contacts revoked",
		"revocation removed":          "Revocation undone",
		"connections ended":           "Connections closed",
		"key set refresh requested":   "Key set fetched",
	}
})

// What the audit log calls the details of an action, in the words of the panel. Other details are not shown.
var changeDetails = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"kid": "key ID", "expires": "at", "target": "of", "connections": "connections closed", "method": "method", "mode": "mode",
		"result": "result", "revocations": "revocations",
	}
})

// What the values of details are in the words of the panel. Other values are shown as they are.
var detailValues = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"identity": "a contact", "jti": "one token", "all": "all contacts",
		"shared_token": methodNames["shared_token"], "public_key": methodNames["public_key"], "jwks": methodNames["jwks"],
	}
})

// What the list says about keys that are not simply active.
var stateBadges = sync.OnceValue(func() map[string]badge {
	return map[string]badge{
		admin.KeysNone:       {"No key", "warn"},
		admin.KeysEnding:     {"Key expires soon", "warn"},
		admin.KeysServer:     {"Key server fails", "bad"},
		admin.KeysUnreadable: {"Cannot be read", "bad"},
	}
})
