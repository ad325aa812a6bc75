package panel

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// The texts of the panel are in two places. Those of its pages are in the templates of the folder pages, with their script: a page
// in another language is another template, because languages differ in more than words. All others are here. Texts that the
// commands and the admin API show too are in other packages: the labels, help and mistakes of settings from package
// config, the causes and fixes of refused tokens from package diagnose, the titles of codes from package authn, and those of
// changes from package trail. What operators read in the log and in errors of the configuration is English everywhere.
//
// Maps are made for the first page that needs them, because most programs with this module do not use the panel.

// notices are the messages that a redirect can select. The text of the query itself is never shown.
var notices = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"created":   "The messenger was created.",
		"saved":     "The settings were saved, and are active within seconds.",
		"deleted":   "The messenger was deleted, with its shared tokens.",
		"revoked":   "The shared token was revoked. Tokens that are signed with it are refused from now on.",
		"refreshed": "The key set was fetched.",
		"imported":  "The secret was imported. Tokens that your site signs with it are accepted from now on.",
		"extended":  "The time was extended.",

		"previous-ended":   "The previous method was removed. Its tokens are refused from now on.",
		"enforced":         "Enforcement is on: requests without a valid token are refused.",
		"ended":            "Connections were closed.",
		"undone":           "The revocation was undone. Tokens that are otherwise valid are accepted again.",
		"contacts-revoked": "The tokens are revoked, and refused from now on.",
	}
})

// How long what is replaced may stay valid.
var overlaps = []overlap{
	{"1h", "1 hour", time.Hour, false}, {"24h", "24 hours", 24 * time.Hour, true}, {"168h", "7 days", 168 * time.Hour, false}, {"720h", "30 days", 720 * time.Hour, false},
}

// errorTitle returns the title of an error page. changes says whether the request was meant to change something.
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

// What the audit log calls the details of an action, in the words of the panel. Other details are not shown.
var changeDetails = sync.OnceValue(func() map[string]string {
	return map[string]string{
		trail.DetailKeyID: "key ID", trail.DetailExpires: "at", trail.DetailTarget: "of", trail.DetailConnections: "connections closed",
		trail.DetailMethod: "method", trail.DetailMode: "mode", trail.DetailResult: "result", trail.DetailRevocations: "revocations",
	}
})

// What the values of details are in the words of the panel. Other values are shown as they are.
var detailValues = sync.OnceValue(func() map[string]string {
	return map[string]string{
		revocation.KindContact: "a contact", revocation.KindToken: "one token", revocation.KindAll: "all contacts",
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

// ago returns how long ago t was, or how far ahead it is, in the largest unit that fits.
func ago(t time.Time) string {
	d := time.Since(t)
	if d < 0 {
		return "in " + span(-d)
	}
	if d < time.Minute {
		return "just now"
	}
	return span(d) + " ago"
}

// span rounds d to the largest unit that fits, so that a token that was made for 24 hours is said to have that for a while.
func span(d time.Duration) string {
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if d >= unit.size {
			return cause.Counted(int64(d.Round(unit.size)/unit.size), unit.name)
		}
	}
	return "less than a minute"
}

// named names the keys or tokens of the messenger with their number, such as "the 2 shared tokens".
func (d *messengerStatus) named(n int, known bool) string {
	kind := map[string]string{config.MethodSharedToken: "shared token", config.MethodPublicKey: "public key", config.MethodJWKS: "key of the key set"}[d.Method]
	switch {
	case !known:
		return "the keys of the key set, whose number is not known right now"
	case n == 1:
		return "the only " + kind
	case d.Method == config.MethodJWKS:
		return fmt.Sprintf("the %d keys of the key set", n)
	}
	return "the " + cause.Counted(n, kind)
}

func wasOrWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}
