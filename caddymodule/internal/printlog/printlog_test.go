package printlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// The console encoder escapes nothing in a message, and no encoder escapes DEL, C1 or what reorders text.
func TestControlCharactersAreEscapedInLogs(t *testing.T) {
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

// Zap writes <nil> for a nil pointer that is an error, and more than the text of errors that have more: neither may end the process, or
// pass by what is escaped.
func TestNilAndStructuredErrorsAreEscaped(t *testing.T) {
	const evil = "x\u009b\u202e"
	core, lines := observer.New(zap.InfoLevel)
	logger := New(zap.New(core))
	for want, err := range map[string]error{"<nil>": (*pointerError)(nil), "plain": verboseError("plain"), "%!v(PANIC=": panicError{}, "a; b": severalErrors{errors.New("a\u009b")}} {
		logger.With(zap.NamedError("with", err)).Warn("it failed", zap.Error(err))
		for _, entry := range lines.TakeAll() {
			got := entry.ContextMap()
			if text, _ := got["error"].(string); !strings.HasPrefix(text, want) || got["with"] != got["error"] || len(got) != 2 || printable.Text(fmt.Sprint(got)) != fmt.Sprint(got) {
				t.Errorf("%s: %q", want, got)
			}
		}
	}
	logger.Warn("it failed", zap.Error(errors.New(evil)))
	if got := lines.TakeAll()[0].ContextMap()["error"]; got != printable.Text(evil) {
		t.Errorf("%q", got)
	}
}

type pointerError struct{ text string }

func (e *pointerError) Error() string { return e.text }

type panicError struct{}

func (panicError) Error() string { panic("boom") }

// severalErrors have a text, and each one of its own.
type severalErrors []error

func (severalErrors) Error() string { return "a; b" }

func (e severalErrors) Errors() []error { return e }

// A verboseError has more to say, as those that have a stack.
type verboseError string

func (e verboseError) Error() string { return string(e) }

func (e verboseError) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, string(e))
	if s.Flag('+') {
		_, _ = io.WriteString(s, "\u009b\u202e")
	}
}

type stringer string

func (s stringer) String() string { return string(s) }

// Of each message one line is written in ten seconds, whatever is derived from the logger, and by however many at once.
func TestEachMessageIsLoggedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		logger := Sampled(zap.New(core))
		wrote := func() (messages string) {
			for _, entry := range lines.TakeAll() {
				messages += entry.Message
			}
			return messages
		}
		logger.Debug("d")
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				logger.Info("a")
				logger.With(zap.Int("n", 1)).Info("a")
			})
		}
		all.Wait()
		logger.Warn("b")
		if got := wrote(); got != "ab" {
			t.Errorf("at first: %q", got)
		}
		time.Sleep(samplePeriod - time.Nanosecond)
		logger.Info("a")
		if got := wrote(); got != "" {
			t.Errorf("before the period is over: %q", got)
		}
		time.Sleep(time.Nanosecond)
		logger.Info("a")
		logger.Info("a")
		logger.Named("other").Warn("b")
		if got := wrote(); got != "ab" {
			t.Errorf("in the next period: %q", got)
		}
		Sampled(zap.New(core)).Info("a")
		if got := wrote(); got != "a" {
			t.Errorf("of another logger: %q", got)
		}
	})
}

// The wall clock, which is that of an entry, may be set: no line is kept away by it, and none is written twice. Nor is one if many are
// written at once, whose times are not in the order in which they come.
func TestSamplingIgnoresTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		sampled := Sampled(zap.New(core)).Core()
		write := func(clock time.Duration) {
			entry := zapcore.Entry{Level: zap.WarnLevel, Message: "a", Time: time.Now().Add(clock)}
			if c := sampled.Check(entry, nil); c != nil {
				c.Write()
			}
		}
		for _, clock := range []time.Duration{0, -time.Nanosecond, -time.Hour, time.Hour} {
			write(clock)
		}
		if got := lines.Len(); got != 1 {
			t.Errorf("%d lines at once, want 1", got)
		}
		time.Sleep(samplePeriod)
		write(-time.Hour)
		if got := lines.Len(); got != 2 {
			t.Errorf("%d lines after the period, want 2", got)
		}
	})
}

// Every handler of a configuration has such a logger, and there may be hundreds.
func TestSampledLoggerTakesLittleMemory(t *testing.T) {
	const loggers = 100
	core, _ := observer.New(zap.InfoLevel)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range loggers {
		Sampled(zap.New(core)).Warn("a")
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / loggers; each > 8<<10 {
		t.Errorf("a logger takes %d bytes", each)
	}
}
