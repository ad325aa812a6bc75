// Package printable escapes text that others have written before it is shown on a terminal or written to a log, so that it
// cannot forge lines, reorder text or control the terminal.
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

// What the gateway shows to people is in part text of others: names in certificates, key IDs, claims, texts of key
// servers. A terminal obeys control characters in it, and characters that reorder or hide text make it read as something
// else (CVE-2021-42574). So every way out escapes them, the same way: commands through the writer of guardOutput, the
// panel where a page is written, the log in printableCore. The escapes are those of JSON, which stays valid by them.

// MaxShown is how much of one value commands show to people, in bytes. JSON has all of it.
const MaxShown = 4 << 10

// IsPrintable reports whether r has a visible form of its own. Characters that change how others look have none.
func IsPrintable(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r <= '~'
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) &&
		r != '\u2800' // a blank of the braille patterns
}

// isText is IsPrintable, or a line break or tab.
func isText(r rune) bool { return r == '\n' || r == '\t' || IsPrintable(r) }

// Text escapes what has no visible form in a text of several lines.
func Text(text string) string { return escapeUnless(text, isText) }

// Line escapes what has no visible form in a value: line breaks and tabs, too, by which a value could forge a line.
func Line(value string) string { return escapeUnless(value, IsPrintable) }

// escapeUnless writes each character of which keep does not hold as \uXXXX, one beyond the first 65,536 as two of them,
// and what is not UTF-8 as U+FFFD.
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

// Printf is fmt.Fprintf for texts with values of others: each operand that is not a number stays on its line, and is cut
// where it is very long.
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

// A Writer escapes what is written to it. A write is a text of its own: no character goes over two of them.
type Writer struct{ io.Writer }

func (w Writer) Write(text []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, Text(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Error is err with a text of one line. Causes that were joined, one a line, are separated by semicolons.
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
