package command

import (
	"errors"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/reseal"
)

// An interrupted run says from where to go on, if it has done something. While --discard-unreadable only looks, it has not: to go on
// from there would discard nothing of what was found before.
func TestOnlyRunsWithChangesPrintTheirPosition(t *testing.T) {
	for _, tt := range []struct {
		what, began, at string
		check, says     bool
	}{
		{"it has not begun", "", "", false, false},
		{"it was interrupted", "", "1234-acme", false, true},
		{"it went on, and did nothing", "1234-acme", "1234-acme", false, false},
		{"it went on, and was interrupted", "1234-acme", "5678-bolt", false, true},
		{"it has only looked", "", "1234-acme", true, false},
	} {
		r := resealing{request: admin.ResealRequest{Options: reseal.Options{After: tt.began}}}
		err := r.interrupted(errors.New("away"), admin.ResealRequest{Options: reseal.Options{After: tt.at, Check: tt.check}})
		if got := strings.HasSuffix(err.Error(), "--after "+tt.at); got != tt.says || !strings.HasPrefix(err.Error(), "away") {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
}
