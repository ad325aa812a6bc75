package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrUnknown is in the error for a member that target does not have.
	ErrUnknown = errors.New("has the unknown member")

	// ErrType is the error for a member whose value is of another type than in target.
	ErrType = errors.New("has a value of the wrong type")
)

// Exceptions are members that Decode treats in another way than all others, at any depth.
type Exceptions struct {
	Empty []string // they may be an empty text
	Raw   []string // their values are decoded later
}

// Decode decodes an object into target, a pointer to a struct whose members have names in lower case. It refuses unknown members, names in
// upper case, duplicate names and text after the object, all of which encoding/json ignores. It also refuses members that are null or
// an empty text: a script that loses a value on its way would turn a filter for one contact into a filter for all.
//
// Its errors continue the name of the text that was read. They quote no value, and only names that are short words: a caller may have
// written a secret in place of a name.
func Decode(text []byte, target any, except Exceptions) error {
	if err := Object(text, nil); err != nil {
		return err
	}
	if err := except.check(bytes.TrimSpace(text), ""); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		if _, name, unknown := strings.Cut(err.Error(), "json: unknown field "); unknown {
			return fmt.Errorf("%w %s", ErrUnknown, Shown(strings.Trim(name, `"`)))
		}
		return ErrType
	}
	return nil
}

// check checks a value that Object has read, which is at path: the names of the members around it.
func (e Exceptions) check(value []byte, path string) (err error) {
	switch {
	case IsNull(value):
		return fmt.Errorf("has null for %s: give it a value, or leave it out", Shown(path))
	case value[0] == '{':
		_ = Lenient(value, func(name, value []byte) {
			if err == nil {
				err = e.checkMember(string(name), value, path)
			}
		})
	case value[0] == '[':
		var elements []json.RawMessage
		_ = json.Unmarshal(value, &elements)
		for _, element := range elements {
			if err == nil {
				err = e.check(element, path)
			}
		}
	}
	return err
}

func (e Exceptions) checkMember(name string, value []byte, path string) error {
	path = strings.TrimPrefix(path+"."+name, ".")
	switch {
	case strings.Trim(name, lowerCase) != "":
		return fmt.Errorf("%w %s (names are in lower case)", ErrUnknown, Shown(name))
	case string(value) == `""` && !slices.Contains(e.Empty, name):
		return fmt.Errorf("has an empty text for %s: give it a value, or leave it out", Shown(path))
	case slices.Contains(e.Raw, name) && !IsNull(value):
		return nil
	default:
		return e.check(value, path)
	}
}

const lowerCase = "_0123456789abcdefghijklmnopqrstuvwxyz"

// Shown returns a name for an error, in quotes. It shows short words only, and the names of members around them: a client may have
// written a token or a secret in place of a name, and errors are logged.
func Shown(name string) string {
	const longest = 24
	for word := range strings.SplitSeq(name, ".") {
		if len(word) > longest || strings.Trim(word, lowerCase+"ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return "(its name is not shown)"
		}
	}
	return `"` + name + `"`
}
