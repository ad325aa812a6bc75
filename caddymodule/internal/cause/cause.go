// Package cause has every mistake that the gateway can name: what people do, and how they fix it. It is the one place for these
// texts. The error of a load, the log, "caddy messenger explain", the panel's token test and the page docs/causes.md take them
// from here.
//
// It does not know how a mistake is found: package diagnose finds those in tokens, and each parser those in its own input. The
// texts are constant and contain nothing that was received or configured, so that no token and no secret can get into them.
//
// Begin reading with [Info]. To add a cause, add its row to the table, and run the test of this package, which says what else
// it needs.
package cause

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Cause is one mistake. The set is closed.
type Cause uint8

// None is for refusals and errors whose code says enough.
const None Cause = 0

// An Info has the texts about a cause. Text and Fix are clauses without a capital letter at the beginning and a full
// stop at the end: they follow a colon in an error or in the log, and [Sentence] makes sentences of them.
type Info struct {
	Name string // in the log and the documentation
	Text string // what is wrong; in the section Keys it continues the name of the key
	Fix  string // what to do about it
}

// Info returns the row of c.
func (c Cause) Info() Info { return table[c] }

// String returns the name of c, or "" for None.
func (c Cause) String() string { return table[c].Name }

// An Error is a cause as an error, for what is found while a configuration is loaded. It continues the name of what is wrong.
type Error struct {
	Cause  Cause
	Detail string // numbers and names, never a part of a key or secret; may be empty
}

// Error implements error.
func (e *Error) Error() string {
	info := e.Cause.Info()
	text := info.Text
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text + "; " + info.Fix
}

// Is reports whether target is the same cause, whatever its detail.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Cause == e.Cause
}

// Err returns c as an error.
func (c Cause) Err() error { return &Error{Cause: c} }

// Of returns the cause that err wraps, or [None].
func Of(err error) Cause {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Cause
	}
	return None
}

// Sentence makes a sentence of a clause.
func Sentence(clause string) string {
	if clause == "" {
		return ""
	}
	return strings.TrimSuffix(Capital(clause), ".") + "."
}

// Capital returns text with a capital letter at its beginning.
func Capital(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// Counted is a number of things: "1 key", "2 keys".
func Counted[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
