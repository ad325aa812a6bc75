package config

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// A RequestHeader is a header of the requests for a key set.
type RequestHeader struct {
	// The name of the header. Required.
	Name string `json:"name,omitempty"`

	// The value, in which the secret is a placeholder {env.NAME} or {file./path}: the secret itself must not be in the
	// configuration. A file is read again for every fetch. Only the values of Accept, Accept-Language and User-Agent may be
	// written out. The value of a stored messenger is never shown; one that is left out stays as it is stored. Required.
	Value HiddenText `json:"value,omitempty"`
}

// A HiddenText is text that is not printed: it may be a secret.
type HiddenText string

// String returns a constant.
func (HiddenText) String() string { return "(not shown)" }

// GoString returns a constant.
func (HiddenText) GoString() string { return "(not shown)" }

// isReference reports whether the secret of the value is somewhere else, so that the text may be shown.
func (t HiddenText) isReference() bool {
	return strings.Contains(string(t), "{env.") || strings.Contains(string(t), "{file.")
}

const (
	maxRequestHeaders = 8

	// maxHeaderValue is the longest value in bytes: a token of a service account of Kubernetes has up to two thousand.
	maxHeaderValue = 8 << 10
)

// openHeaders are those whose values are not secrets.
var openHeaders = []string{"accept", "accept-language", "user-agent"}

// reservedHeaders are those that the gateway or HTTP itself sets, with what to do.
var reservedHeaders = []struct {
	names  []string
	reason string
}{
	{[]string{"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"},
		"belongs to the connection and not to the request; remove it"},
	{[]string{"host"}, "is the host of the URL; write the host into the URL"},
	{[]string{"content-length", "content-encoding", "content-range", "expect"}, "is for a request with a body, which a fetch does not have; remove it"},
	{[]string{"accept-encoding"}, "is set by the gateway, so that a small answer does not become a large one; remove it"},
	{[]string{"if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"}, "is set by the gateway, which asks whether the key set has changed; remove it"},
}

var errHeaderName = errors.New("does not begin with the name of a header; write one such as X-Api-Key")

// checkHeaderName returns an error for a header that cannot be configured. It begins with the name, unless that is not one: it may be
// the value, in the wrong place.
func checkHeaderName(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return errHeaderName
	}
	for _, reserved := range reservedHeaders {
		if slices.Contains(reserved.names, ascii.Lower(name)) {
			return errors.New(name + " " + reserved.reason)
		}
	}
	return nil
}

// checkHeaderValue returns an error for a value that cannot be sent. It never quotes the value.
func checkHeaderValue(value string) error {
	switch {
	case value == "":
		return errors.New("has no value")
	case len(value) > maxHeaderValue:
		return fmt.Errorf("has a value of %d bytes, and at most %d can be sent", len(value), maxHeaderValue)
	case strings.ContainsAny(value, "\r\n"):
		return errors.New("has a value with a line break in it; write it on one line")
	case !httpguts.ValidHeaderFieldValue(value):
		return errors.New("has a value with a control character in it; remove it")
	case strings.Trim(value, " \t") != value:
		return errors.New("has a value that begins or ends with a blank; remove it")
	}
	return nil
}

// checkHeaders checks the headers of a messenger of the configuration, or of a stored one. Errors go on after "jwks".
func checkHeaders(headers []RequestHeader, stored bool) error {
	if len(headers) > maxRequestHeaders {
		return fmt.Errorf("header is given %d times; at most %d are sent", len(headers), maxRequestHeaders)
	}
	seen := make(map[string]bool)
	for i, h := range headers {
		switch err := checkHeaderName(h.Name); {
		case errors.Is(err, errHeaderName):
			return fmt.Errorf("header number %d %w", i+1, err)
		case err != nil:
			return fmt.Errorf("header %w", err)
		}
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		if seen[name] {
			return fmt.Errorf("header %s is set twice; keep one line", name)
		}
		seen[name] = true
		if err := h.check(stored); err != nil {
			return fmt.Errorf("header %s %w", name, err)
		}
	}
	return nil
}

func (h RequestHeader) check(stored bool) error {
	switch {
	case stored && h.Value == "":
		return errors.New("has no value; write it: that of a stored messenger is kept only if the key server's host and ca are the same as before")
	case stored && h.Value.isReference():
		return errors.New("has a placeholder in its value; a stored messenger has the value itself")
	case stored || h.Value != "" && !hasPlaceholder(string(h.Value)) && slices.Contains(openHeaders, ascii.Lower(h.Name)):
		return checkHeaderValue(string(h.Value))
	case h.Value == "":
		return errors.New("has no value; write {env.NAME} or {file./path}")
	case !h.Value.isReference():
		return errors.New("has a value without a placeholder; write {env.NAME} or {file./path}: a secret must not be in the configuration, because everyone who " +
			"can read that could use it ({$NAME} puts the value into the configuration)")
	}
	return nil
}

// resolve returns the header as it is sent.
func (h RequestHeader) resolve(files LoadedFiles) (name, value string, err error) {
	name = textproto.CanonicalMIMEHeaderKey(h.Name)
	if value, err = files.Resolve(string(h.Value)); err == nil {
		value = strings.TrimRight(value, "\r\n")
		err = checkHeaderValue(value)
	}
	if err != nil {
		return "", "", fmt.Errorf("header %s: %w", name, err)
	}
	return name, value, nil
}

// Resolved returns the header with the value itself, for a command that stores it.
func (h RequestHeader) Resolved() (RequestHeader, error) {
	if !h.Value.isReference() {
		return h, nil
	}
	name, value, err := h.resolve(nil)
	return RequestHeader{name, HiddenText(value)}, err
}

// readHeader reads the arguments of an option.
func readHeader(args []string) (RequestHeader, error) {
	if len(args) != 2 {
		return RequestHeader{}, errors.New("takes a name and a value: header X-Api-Key {env.NAME}, or header Authorization \"Bearer {file./path}\"")
	}
	return RequestHeader{args[0], HiddenText(args[1])}, checkHeaderName(args[0])
}

// ParseHeaderLine reads a header as it is in a request, "X-Api-Key: value". The name alone keeps the value that is stored.
func ParseHeaderLine(line string) (RequestHeader, error) {
	name, value, hasValue := strings.Cut(line, ":")
	h := RequestHeader{strings.TrimSpace(name), HiddenText(strings.TrimSpace(value))}
	switch err := checkHeaderName(h.Name); {
	case errors.Is(err, errHeaderName):
		return h, fmt.Errorf("has a line that %w", err)
	case err != nil:
		return h, err
	}
	if hasValue && h.Value == "" {
		return h, fmt.Errorf("%s has no value; write it behind the colon, or the name alone to keep the value that is stored", h.Name)
	}
	return h, nil
}

// headerLines are headers as the form shows them: a value that may be a secret is not there, and a save keeps it.
func headerLines(headers []RequestHeader) (lines []string) {
	for _, h := range headers {
		if h.Value.isReference() {
			lines = append(lines, h.Name+": "+string(h.Value))
		} else {
			lines = append(lines, h.Name)
		}
	}
	return lines
}

// WithoutValue returns the line of a header that was typed, for showing it once more.
func WithoutValue(line string) string {
	name, value, _ := strings.Cut(line, ":")
	if HiddenText(value).isReference() || value == "" {
		return line
	}
	return name + ":"
}
