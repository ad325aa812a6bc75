package session

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// The last event comes between two events, wherever the bytes were cut and whatever ends the lines.
func TestLastEventIsWrittenBetweenEvents(t *testing.T) {
	const last = "event: auth\ndata: token_expired\n\n"
	for name, test := range map[string]struct{ before, after, want string }{
		"an empty stream":             {"", "data: 1\n\n", last},
		"between events":              {"data: 1\n\n", "data: 2\n\n", "data: 1\n\n" + last},
		"within an event":             {"data: 1\nda", "ta: 2\n\ndata: 3\n\n", "data: 1\ndata: 2\n\n" + last},
		"at the end of a line":        {"data: 1\n", "data: 2\n\n", "data: 1\ndata: 2\n\n" + last},
		"carriage returns":            {"data: 1\r", "data: 2\r\rdata: 3\r\r", "data: 1\rdata: 2\r\r" + last},
		"both":                        {"data: 1\r\n", "\r\ndata: 2\r\n\r\n", "data: 1\r\n\r" + last},
		"in the middle of a line end": {"data: 1\r\n\r", "\ndata: 2", "data: 1\r\n\r" + last},
		"after a comment":             {": beat\n", "data: 1\n\n", ": beat\n" + last},
		"within a comment":            {": be", "at\ndata: 1\n\n", ": beat\n" + last},
		"a comment within an event":   {"data: 1\n: beat\n", "\ndata: 2\n\n", "data: 1\n: beat\n\n" + last},
		"empty lines":                 {"\n\n", "\n", "\n\n" + last},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{1, 2, 1000} {
				var client bytes.Buffer
				c := NewConnection(func() {}, nil)
				c.Begin(EventStream, &client, nil, nil)
				write := func(text string) (err error) {
					for len(text) > 0 && err == nil {
						n := min(step, len(text))
						_, err = c.Write([]byte(text[:n]))
						text = text[n:]
					}
					return err
				}
				if err := write(test.before); err != nil {
					t.Fatal(err)
				}
				c.End(Expired)
				if err := write(test.after); !errors.Is(err, errEnded) && err != nil {
					t.Fatal(err)
				}
				c.Finish()
				if got := client.String(); got != test.want {
					t.Errorf("in steps of %d: got %q, want %q", step, got, test.want)
				}
			}
		})
	}
}

// The reason is one line of an event, so it must not have a line end in it.
func TestEndReasonsHaveNoLineBreaks(t *testing.T) {
	for _, ending := range []Ending{Expired, Revoked, Limit} {
		if strings.ContainsAny(ending.Reason, " \r\n:") || ending.Code < 4000 || ending.Code > 4999 {
			t.Errorf("%+v", ending)
		}
	}
}

// A plain event cannot be written into a compressed stream. The bytes that complete the stream still pass.
func TestEncodedEventsEndWithoutALastEvent(t *testing.T) {
	var client bytes.Buffer
	cancelled := false
	c := NewConnection(func() { cancelled = true }, nil)
	c.Begin(EncodedEvents, &client, nil, nil)
	_, _ = c.Write([]byte("\x1f\x8b one"))
	c.End(Expired)
	if !cancelled {
		t.Error("the request continues")
	}
	if _, err := c.Write([]byte(" end")); err != nil || client.String() != "\x1f\x8b one end" {
		t.Errorf("got %q, %v", client.String(), err)
	}
	c.Finish()
}
