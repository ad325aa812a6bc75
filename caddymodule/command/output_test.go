package command

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

func TestErrorsOfCommandsAreOneLine(t *testing.T) {
	cause := errors.New("a\x1b[31m")
	err := printable.Error(fmt.Errorf("doing: %w", errors.Join(cause, errors.New("b\nforged"))))
	if got, want := err.Error(), `doing: a\u001b[31m; b; forged`; got != want || !errors.Is(err, cause) {
		t.Errorf("got %q, want %q", got, want)
	}
	if printable.Error(cause).Error() == cause.Error() || printable.Error(nil) != nil {
		t.Error("nil, or an escape sequence, is not what it should be")
	}
	if long := printable.Error(errors.New(strings.Repeat("é", 50_000))).Error(); len(long) > printable.MaxShown+100 || !utf8.ValidString(long) {
		t.Errorf("a long error has %d bytes", len(long))
	}
}

// Caddy's admin endpoint logs the errors that it answers with.
func TestErrorsOfTheAdminAPIArePrintable(t *testing.T) {
	for _, err := range []error{apierror.New(404, "no \x1b[31m\u202e"), fmt.Errorf("doing: %w", apierror.New(404, "no \x1b[31m\u202e")), errors.New("no \x1b[31m\u202e")} {
		got := admin.PrintableAnswer(err)
		if text := got.Error(); printable.Line(text) != text || !strings.Contains(text, `no \u001b[31m\u202e`) || exitStatus(got) != exitStatus(err) {
			t.Errorf("%q becomes %q", err, text)
		}
	}
	if admin.PrintableAnswer(nil) != nil {
		t.Error("no error becomes one")
	}
}
