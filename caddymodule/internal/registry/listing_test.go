package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
)

// A node that does not follow the others lists a messenger as it was a minute ago at most.
func TestSummariesAreCachedForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		defer b.stop()
		defer a.stop()
		mode := func() config.Mode {
			t.Helper()
			list, err := a.Summaries(t.Context(), []string{"acme"})
			if err != nil || len(list) != 1 {
				t.Fatalf("%+v: %v", list, err)
			}
			return list[0].Mode
		}
		put := func(n *testNode, mode config.Mode) {
			t.Helper()
			settings := sharedTokenSettings(time.Hour)
			settings.Mode = mode
			if _, _, err := n.Put(t.Context(), "acme", settings, change.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		put(b, config.ModeRequired)
		if got := mode(); got != config.ModeRequired {
			t.Errorf("at first: %s", got)
		}
		put(b, config.ModeReport)
		time.Sleep(summaryAge)
		if got := mode(); got != config.ModeReport {
			t.Errorf("after a minute: %s", got)
		}
	})
}
