package auth

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printlog"
)

// A flood of refused requests must not fill the disk, and must not hide what else is refused: the first of each kind is
// there, and one of it every ten seconds.
func TestRefusalsAreSampledByKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		refusals := printlog.Sampled(zap.New(core))
		flood := func() {
			for range 100 {
				for _, p := range problems() {
					for _, message := range []string{p.refused, p.wouldBeRefused} {
						if c := refusals.Check(zapcore.InfoLevel, message); c != nil {
							c.Write()
						}
					}
				}
			}
		}
		for range 3 {
			flood()
			seen := make(map[string]int)
			for _, line := range logs.TakeAll() {
				seen[line.Message]++
			}
			for code, p := range problems() {
				for _, message := range []string{p.refused, p.wouldBeRefused} {
					if seen[message] != 1 || !strings.HasSuffix(message, string(code)) {
						t.Errorf("%q is logged %d times, want once", message, seen[message])
					}
				}
			}
			time.Sleep(10*time.Second + time.Nanosecond)
		}
	})
}

// A line about a refusal tells the operator what to do.
func TestEveryRefusalHasAdvice(t *testing.T) {
	for _, code := range authn.Codes() {
		if text := code.Info().Advice; text == "" || text != strings.TrimSpace(text) || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q", code, text)
		}
	}
}
