package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Every character is either printed as it is, or escaped so that JSON reads it back.
func TestNoCharacterReachesATerminalThatItObeys(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		text := printable(string(r))
		if text == string(r) {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || unicode.In(r, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Co, unicode.Bidi_Control, unicode.Join_Control, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point) {
				t.Errorf("U+%04X is printed as it is", r)
			}
			continue
		}
		var back string
		if err := json.Unmarshal([]byte(`"`+text+`"`), &back); err != nil || back != string(r) {
			t.Errorf("U+%04X is escaped as %s, which JSON reads as %q (%v)", r, text, back, err)
		}
	}
	for text, want := range map[string]string{"\xff": "\ufffd", "a\xc0\x80": "a\ufffd\ufffd", "Zoë 客户 ❤": "Zoë 客户 ❤", "a\nb\tc": `a\u000ab\u0009c`, "": ""} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) is %q, want %q", text, got, want)
		}
	}
	if got := printableText("a\nb\tc\r"); got != "a\nb\tc\\u000d" {
		t.Errorf("got %q", got)
	}
}

func TestErrorsOfCommandsAreOneLine(t *testing.T) {
	cause := errors.New("a\x1b[31m")
	err := printableError(fmt.Errorf("doing: %w", errors.Join(cause, errors.New("b\nforged"))))
	if got, want := err.Error(), `doing: a\u001b[31m; b; forged`; got != want || !errors.Is(err, cause) {
		t.Errorf("got %q, want %q", got, want)
	}
	if printableError(cause).Error() == cause.Error() || printableError(nil) != nil {
		t.Error("nil, or an escape sequence, is not what it should be")
	}
	if long := printableError(errors.New(strings.Repeat("é", 50_000))).Error(); len(long) > maxShown+100 || !utf8.ValidString(long) {
		t.Errorf("a long error has %d bytes", len(long))
	}
}

// The console encoder escapes nothing in a message, and no encoder escapes DEL, C1 or what reorders text.
func TestLogsHoldNothingThatATerminalObeys(t *testing.T) {
	const evil = "x\x1b[31m\x7f\u009b\u202e\u200b\nforged"
	for name, encoder := range map[string]zapcore.Encoder{
		"console": zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), "json": zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
	} {
		var out bytes.Buffer
		logger := printableLogger(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel), zap.AddCaller())).Named("messenger")
		logger.With(zap.String("with", evil)).Info("it failed: "+evil, zap.String("s", evil), zap.Error(errors.New(evil)), zap.Strings("list", []string{evil}),
			zap.Any("map", map[string]any{evil: []any{evil}}), zap.ByteString("bytes", []byte(evil)), zap.Stringer("stringer", stringer(evil)), zap.Int("n", 7), zap.Error(nil))
		sampled(logger).Warn("sampled "+evil, zap.String("s", evil))
		logger.Debug("plain", zap.Strings("list", []string{"a"}))
		text := out.String()
		if printableText(text) != text || strings.Count(text, "\n") != 3 || strings.Contains(text, "\nforged") {
			t.Errorf("%s: %q", name, text)
		}
		for _, want := range []string{"printable_test.go", `"n":`, "7", "messenger", `"a"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s is lost: %s", name, want, text)
			}
		}
	}
	// A level that is off costs nothing, and filters below are asked.
	quiet := printableLogger(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(new(bytes.Buffer)), zap.ErrorLevel)))
	if quiet.Check(zap.InfoLevel, "x") != nil {
		t.Error("a level that is off is written")
	}
}

type stringer string

func (s stringer) String() string { return string(s) }

// Caddy's admin endpoint logs the errors that it answers with.
func TestErrorsOfTheAdminAPIArePrintable(t *testing.T) {
	for _, err := range []error{adminError(404, "no \x1b[31m\u202e"), fmt.Errorf("doing: %w", adminError(404, "no \x1b[31m\u202e")), errors.New("no \x1b[31m\u202e")} {
		got := printableAnswer(err)
		if text := got.Error(); printable(text) != text || !strings.Contains(text, `no \u001b[31m\u202e`) || exitStatus(got) != exitStatus(err) {
			t.Errorf("%q becomes %q", err, text)
		}
	}
	if printableAnswer(nil) != nil {
		t.Error("no error becomes one")
	}
}
