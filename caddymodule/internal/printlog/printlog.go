// Package printlog makes loggers for text from outside: one escapes control characters, another limits the lines that clients can cause.
//
// It does not know the messages. Package printable decides which characters are escaped.
//
// Begin reading with [New] and [Sampled].
package printlog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// New returns a logger that escapes text as printable.Text does. Zap's encoders escape line breaks and most
// other control characters in fields, but not DEL, C1 and characters that reorder text; the console encoder escapes nothing
// in messages.
//
// It escapes messages, and in fields strings, bytes, errors, Stringers, and lists and objects of strings (zap.Strings, zap.Object, and
// a map[string]any, []any or []string in zap.Any). It does not escape the keys of fields, zap.Inline, and other values in zap.Any and
// zap.Reflect, such as structs: these must not contain text from outside. Errors lose the stack and the causes that zap adds for some.
func New(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return printableCore{core} }))
}

// A printableCore escapes the entries that it passes on to the core that it wraps.
type printableCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c printableCore) With(fields []zapcore.Field) zapcore.Core {
	return printableCore{c.Core.With(printableFields(fields))}
}

// Check implements zapcore.Core. It asks the wrapped core once, because samplers count, and keeps its answer for Write.
func (c printableCore) Check(entry zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if below := c.Core.Check(entry, nil); below != nil {
		return ce.AddCore(entry, checkedCore{c.Core, below})
	}
	return ce
}

// A checkedCore writes one entry that the wrapped core has accepted.
type checkedCore struct {
	zapcore.Core
	below *zapcore.CheckedEntry
}

// Write implements zapcore.Core.
func (c checkedCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	entry.Message = printable.Line(entry.Message)
	c.below.Entry = entry // with additions after the check, such as the caller
	c.below.Write(printableFields(fields)...)
	return nil
}

// printableFields returns fields itself, or a copy if one of them has to be escaped.
func printableFields(fields []zapcore.Field) []zapcore.Field {
	var escaped []zapcore.Field
	for i, field := range fields {
		other, changed := printableField(field)
		if !changed {
			continue
		}
		if escaped == nil {
			escaped = append(escaped, fields...)
		}
		escaped[i] = other
	}
	if escaped == nil {
		return fields
	}
	return escaped
}

// printableField returns the escaped field, and whether it differs.
func printableField(field zapcore.Field) (zapcore.Field, bool) {
	var text string
	switch field.Type {
	case zapcore.StringType:
		text = field.String
	case zapcore.ByteStringType:
		text = string(field.Interface.([]byte))
	case zapcore.ErrorType:
		// Always: zap would add more fields for some errors. fmt survives a nil pointer, and other panics of Error.
		return zap.String(field.Key, printable.Text(fmt.Sprint(field.Interface))), true
	case zapcore.StringerType:
		text = fmt.Sprint(field.Interface) // which survives a nil
	case zapcore.ArrayMarshalerType, zapcore.ObjectMarshalerType, zapcore.ReflectType:
		return printableTree(field)
	default:
		return field, false
	}
	if other := printable.Text(text); other != text {
		return zap.String(field.Key, other), true
	}
	return field, false
}

// printableTree escapes the strings in a list or an object.
func printableTree(field zapcore.Field) (zapcore.Field, bool) {
	encoder := zapcore.NewMapObjectEncoder()
	field.AddTo(encoder)
	changed := false
	var walk func(node any) any
	walk = func(node any) any {
		switch node := node.(type) {
		case string:
			other := printable.Text(node)
			changed = changed || other != node
			return other
		case []string:
			list := make([]any, len(node))
			for i := range node {
				list[i] = walk(node[i])
			}
			return list
		case []any:
			list := make([]any, len(node))
			for i := range node {
				list[i] = walk(node[i])
			}
			return list
		case map[string]any:
			members := make(map[string]any, len(node))
			for name, value := range node {
				members[printable.Text(name)] = walk(value)
			}
			return members
		}
		return node
	}
	tree := walk(encoder.Fields[field.Key])
	return zap.Any(field.Key, tree), changed
}

// Sampled returns a logger for lines that clients can cause in any number: it writes the first line of each message in every ten seconds.
// Messages must be constant texts, because each is stored. Zap's own sampler takes 450 KB from the start, and every handler has one.
func Sampled(logger *zap.Logger) *zap.Logger {
	return logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return sampledCore{core, time.Now(), new(sync.Map)}
	}))
}

const samplePeriod = 10 * time.Second

// A sampledCore passes on the first entry of a message, and the first that is samplePeriod later or more. Cores that With derives from
// it count together with it.
type sampledCore struct {
	zapcore.Core
	since  time.Time // when it was made
	passed *sync.Map // by message, an *atomic.Int64: when an entry was passed on, in nanoseconds after since
}

// With implements zapcore.Core.
func (c sampledCore) With(fields []zapcore.Field) zapcore.Core {
	return sampledCore{c.Core.With(fields), c.since, c.passed}
}

// Check implements zapcore.Core. It uses the monotonic clock and not the entry's time: the wall clock may be set, and the times of
// concurrent entries may differ from the order of their checks.
func (c sampledCore) Check(entry zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return ce
	}
	passed, ok := c.passed.Load(entry.Message)
	if !ok {
		never := new(atomic.Int64)
		never.Store(-int64(samplePeriod))
		passed, _ = c.passed.LoadOrStore(entry.Message, never)
	}
	last, now := passed.(*atomic.Int64).Load(), int64(time.Since(c.since))
	if now-last < int64(samplePeriod) || !passed.(*atomic.Int64).CompareAndSwap(last, now) {
		return ce
	}
	return c.Core.Check(entry, ce)
}
