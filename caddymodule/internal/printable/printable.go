// Package printable escapes text that others have written before it is shown on a terminal or written to a log, so that it
// cannot forge lines, reorder text or control the terminal.
//
// It does not know where a text comes from: its callers do, and use it for everything that the gateway has not written itself.
//
// Begin reading with [Text] and [Line].
package printable

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The gateway shows text that others wrote: names in certificates, key IDs, claims, texts of key servers. A terminal obeys control
// characters in it, and characters that reorder or hide text make it read differently (CVE-2021-42574). So every output escapes
// them in the same way: the commands through the writer of guardOutput, the panel where it writes a page, the log in package printlog.
// The escapes are those of JSON, so that escaped JSON is still valid.

// MaxShown is how much of one value commands show to people, in bytes. JSON output has all of it.
const MaxShown = 4 << 10

// IsPrintable reports whether r is visible. Characters that only change how others look are not.
func IsPrintable(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r <= '~'
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		r != '\u2800' // a blank of the braille patterns
}

// isText is IsPrintable, or a line break or tab.
func isText(r rune) bool { return r == '\n' || r == '\t' || IsPrintable(r) }

// Text escapes what is not visible in a text of several lines.
func Text(text string) string { return escapeUnless(text, isText) }

// Line escapes what is not visible in a value, including line breaks and tabs, with which a value could forge a line.
func Line(value string) string { return escapeUnless(value, IsPrintable) }

// ASCII escapes what is not ASCII.
func ASCII(text string) string { return escapeUnless(text, func(r rune) bool { return r < '\x7f' }) }

// escapeUnless writes each character for which keep is false as \uXXXX, those from U+10000 on as two of them, and what is not
// UTF-8 as U+FFFD.
func escapeUnless(text string, keep func(rune) bool) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !keep(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch high, low := utf16.EncodeRune(r); {
		case keep(r):
			b.WriteRune(r)
		case high != unicode.ReplacementChar:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// Printf is fmt.Fprintf for texts with values that others wrote: each operand that is not a number stays on its line, and is cut if
// it is very long.
func Printf(w io.Writer, format string, operands ...any) error {
	for i, operand := range operands {
		switch operand.(type) {
		case int, int64, uint64, bool:
		default:
			operands[i] = cut(Line(fmt.Sprint(operand)))
		}
	}
	_, err := fmt.Fprintf(w, format, operands...)
	return err
}

// cut shortens a value that would fill the screen.
func cut(value string) string {
	if len(value) <= MaxShown {
		return value
	}
	end := MaxShown
	for !utf8.RuneStart(value[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes more)", value[:end], len(value)-end)
}

// A Writer escapes what is written to it. No character may be split between two writes.
type Writer struct{ io.Writer }

func (w Writer) Write(text []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, Text(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Error is err with a text of one line. Joined causes, which have a line each, are separated by semicolons.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := cut(Line(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")))
	if text == err.Error() {
		return err
	}
	return &shownError{err, text}
}

type shownError struct {
	error
	text string
}

func (e *shownError) Error() string { return e.text }

func (e *shownError) Unwrap() error { return e.error }
