package printlog

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// The console encoder escapes nothing in a message, and no encoder escapes DEL, C1 or what reorders text.
func TestLogsHoldNothingThatATerminalObeys(t *testing.T) {
	const evil = "x\x1b[31m\x7f\u009b\u202e\u200b\nforged"
	for name, encoder := range map[string]zapcore.Encoder{
		"console": zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), "json": zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
	} {
		var out bytes.Buffer
		logger := New(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel), zap.AddCaller())).Named("messenger")
		logger.With(zap.String("with", evil)).Info("it failed: "+evil, zap.String("s", evil), zap.Error(errors.New(evil)), zap.Strings("list", []string{evil}),
			zap.Any("map", map[string]any{evil: []any{evil}}), zap.ByteString("bytes", []byte(evil)), zap.Stringer("stringer", stringer(evil)), zap.Int("n", 7), zap.Error(nil))
		Sampled(logger).Warn("sampled "+evil, zap.String("s", evil))
		logger.Debug("plain", zap.Strings("list", []string{"a"}))
		text := out.String()
		if printable.Text(text) != text || strings.Count(text, "\n") != 3 || strings.Contains(text, "\nforged") {
			t.Errorf("%s: %q", name, text)
		}
		for _, want := range []string{"printlog_test.go", `"n":`, "7", "messenger", `"a"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %s is lost: %s", name, want, text)
			}
		}
	}
	// A level that is off costs nothing, and filters below are asked.
	quiet := New(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(new(bytes.Buffer)), zap.ErrorLevel)))
	if quiet.Check(zap.InfoLevel, "x") != nil {
		t.Error("a level that is off is written")
	}
}

type stringer string

func (s stringer) String() string { return string(s) }
