package succession

import (
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// A site was given a new token and still signs with the old one, which expires within a day: that is when operators are warned, and
// not before or after it.
func TestWarningIsForATokenThatIsStillInUse(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	hour := now.Truncate(time.Hour)
	in := func(d time.Duration) *time.Time {
		end := now.Add(d)
		return &end
	}
	token := func(kid string, age time.Duration, end *time.Time) ledger.Token {
		return ledger.Token{KeyID: kid, Created: now.Add(-age), End: end}
	}
	uses := func(kids ...string) map[string]time.Time {
		all := make(map[string]time.Time)
		for i, kid := range kids { // the latest first
			all[kid] = hour.Add(-time.Duration(i) * time.Hour)
		}
		return all
	}
	rotated := []ledger.Token{token("old", 48*time.Hour, in(3*time.Hour)), token("new", time.Hour, nil)}
	for _, test := range []struct {
		name   string
		tokens []ledger.Token
		uses   map[string]time.Time
		want   string
	}{
		{"no token", nil, nil, "none"},
		{"one that does not expire", []ledger.Token{token("only", time.Hour, nil)}, uses("only"), "none"},
		{"rotated, and nothing was used yet", rotated, nil, "none"},
		{"rotated, and the old one is in use", rotated, uses("old"), "old soon, then new"},
		{"the site has changed over", rotated, uses("new", "old"), "none"},
		{"it has changed over in this hour", rotated, map[string]time.Time{"old": hour, "new": hour}, "none"},
		{"one of its servers has not changed over", rotated, uses("old", "new"), "none"},
		{"the end is far", []ledger.Token{token("old", 48*time.Hour, in(72*time.Hour)), token("new", time.Hour, nil)}, uses("old"), "old later, then new"},
		{"exactly a day", []ledger.Token{token("old", 48*time.Hour, in(24*time.Hour)), token("new", time.Hour, nil)}, uses("old"), "old soon, then new"},
		{"all expire, and none was used", []ledger.Token{token("a", 48*time.Hour, in(time.Hour)), token("b", time.Hour, in(2*time.Hour))}, nil, "b soon"},
		{"all expire, the old one first and in use", []ledger.Token{token("a", 48*time.Hour, in(time.Hour)), token("b", time.Hour, in(2*time.Hour))}, uses("a"), "a soon, then b"},
		{"all expire, and the newest is in use", []ledger.Token{token("a", 48*time.Hour, in(time.Hour)), token("b", time.Hour, in(2*time.Hour))}, uses("b"), "b soon"},
		{"rotated twice: the newest is the one to use", append(rotated[:1:1], token("middle", 2*time.Hour, in(9*time.Hour)), token("newest", time.Minute, nil)), uses("old"), "old soon, then newest"},
		{"the only one that stays is older, and was used before", []ledger.Token{token("a", 48*time.Hour, nil), token("b", time.Hour, in(time.Hour))}, uses("b", "a"), "b soon, then a, used before"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := "none"
			if w := Of(test.tokens, test.uses); w != nil {
				got = w.Token.KeyID + map[bool]string{true: " soon", false: " later"}[w.IsSoon(now)]
				if w.Next != nil {
					got += ", then " + w.Next.KeyID
				}
				if w.Used {
					got += ", used before"
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if (*Warning)(nil).IsSoon(now) {
		t.Error("no warning is soon")
	}
}
