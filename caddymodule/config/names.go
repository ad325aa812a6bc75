package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The placeholders of the requested address begin with these.
const (
	HostLabelPrefix = "http.request.host.labels."
	PathPartPrefix  = "http.request.uri.path."
)

// IsRoutePlaceholder reports whether a placeholder may choose the messenger: a part of the requested address. Placeholders
// that a client can fill freely on any URL (header, cookie, query) would let it choose the keys that verify its token.
func IsRoutePlaceholder(key string) bool {
	for _, prefix := range []string{HostLabelPrefix, PathPartPrefix} {
		if index, ok := strings.CutPrefix(key, prefix); ok {
			return index != "" && strings.Trim(index, "0123456789") == ""
		}
	}
	return false
}

// CheckNamePattern checks the messenger's name in a directive, which may have placeholders.
func CheckNamePattern(ref string) error {
	if ref == "" {
		return nil
	}
	if !strings.Contains(ref, "{") {
		if err := CheckName(ref); err != nil {
			return fmt.Errorf("messenger %q: the name %w", ref, err)
		}
		return nil
	}
	for rest := ref; ; {
		_, after, opened := strings.Cut(rest, "{")
		if !opened {
			return nil
		}
		name, after, closed := strings.Cut(after, "}")
		if !closed || !IsRoutePlaceholder(name) {
			return fmt.Errorf("messenger %q: only labels of the host ({labels.N}) and parts of the path ({path.N}) can choose the messenger", ref)
		}
		rest = after
	}
}

// CheckName returns an error if a messenger cannot have this name. Names become headers, log fields, metric labels and storage
// keys, and must need no escaping in any of them.
func CheckName(name string) error {
	if name == "" || len(name) > 63 {
		return errors.New("must have 1 to 63 characters")
	}
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '-') {
			return errors.New("must begin with a lower-case letter or digit and have only these, \"_\" and \"-\"")
		}
	}
	return nil
}

// written finds the placeholders of a directive's messenger, also one that has no end.
var written = regexp.MustCompile(`{[^}]*}?`)

// RefCanName reports whether ref, the messenger of a directive, can become name. A placeholder can become any text. It is asked for
// every route and every messenger of a configuration, and so compiles nothing.
func RefCanName(ref, name string) bool {
	texts := written.Split(strings.ToLower(ref), -1)
	name, found := strings.CutPrefix(name, texts[0])
	last := len(texts) - 1
	if last == 0 {
		return found && name == ""
	}
	for _, text := range texts[1:last] {
		at := strings.Index(name, text)
		if at < 0 {
			return false
		}
		name = name[at+len(text):]
	}
	return found && strings.HasSuffix(name, texts[last])
}
