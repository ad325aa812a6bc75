// Package cause has every mistake that the gateway can name: what people do, and how they fix it. It is the one place for these
// texts. The error of a load, the log, "caddy messenger explain", the panel's token test and the page docs/causes.md take them
// from here.
//
// It does not know how a mistake is found: package diagnose finds those in tokens, and each parser those in its own input. The
// texts are constant and contain nothing that was received or configured, so that no token and no secret can get into them.
//
// Begin reading with [Info]. To add a cause, add a constant and its row, and run the test of this package, which says what else
// it needs.
package cause

import (
	"errors"
	"unicode"
)

// A Cause is one mistake. The set is closed.
type Cause uint8

// None is for refusals and errors that the code alone describes.
const None Cause = 0

// An Info is what people are told about a cause. Text and Fix are clauses without a capital letter at the beginning and a full
// stop at the end: they follow a colon in an error or in the log, and [Sentence] makes sentences of them.
type Info struct {
	Name string // in the log and the documentation
	Text string // what is wrong; in the section Keys it goes on after the name of the key
	Fix  string // what to do about it
}

// A Section is a part of the documentation.
type Section struct {
	Title   string
	About   string // where these causes are named
	Subject string // what the texts go on after; "" if they are whole clauses
	Causes  []Cause
}

// Info returns the row of c.
func (c Cause) Info() Info { return table[c] }

// String returns the name of c, or "" for None.
func (c Cause) String() string { return table[c].Name }

// All returns all causes but None, in the order of the documentation.
func All() (all []Cause) {
	for c := None + 1; c < end; c++ {
		all = append(all, c)
	}
	return all
}

// Sections returns the sections of the documentation. Each cause is in exactly one of them.
func Sections() []Section {
	between := func(first, next Cause) (list []Cause) {
		for c := first; c < next; c++ {
			list = append(list, c)
		}
		return list
	}
	return []Section{
		{"What a page sends", "the log and `explain`", "", between(SchemeAlone, TextIsHeader)},
		{"The form of the token", "the log and `explain`", "", between(TextIsHeader, AlgXMLDSig)},
		{"Algorithm, key and signature", "the log and `explain`", "", between(AlgXMLDSig, TimeMilliseconds)},
		{"Claims", "the log and `explain`", "", between(TimeMilliseconds, IdentityFraction)},
		{"The contact identity", "the log and `explain`", "", between(IdentityFraction, SecretQuoted)},
		{"Shared tokens", "the log, `explain`, and a warning at load", "The secret", between(SecretQuoted, KeyEmpty)},
		{"Keys", "the error at load, the form of the panel, and `sign`", "The key", between(KeyEmpty, ServerAuthority)},
		{"Key servers", "the log, `keys`, and `explain`", "", between(ServerAuthority, PathPrefixGone)},
		{"Addresses", "the log", "", between(PathPrefixGone, end)},
	}
}

// An Error is a cause as an error, for what is found while a configuration is loaded. It goes on after the name of what is wrong.
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
	letters := []rune(clause)
	if len(letters) == 0 {
		return ""
	}
	letters[0] = unicode.ToUpper(letters[0])
	return string(letters) + "."
}
