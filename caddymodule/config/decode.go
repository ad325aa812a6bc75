package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

var errSettingsForm = errors.New("has a value of the wrong type; it should be JSON as \"show --json\" prints it under \"settings\"")

// ErrUnknownMember is in the error for a member that this version does not know.
var ErrUnknownMember = errors.New("has the unknown member")

// DecodeSettings decodes settings of a messenger that a person may have written. Each member is a restriction, or may be one, so that
// it refuses what encoding/json passes over in silence: a second member of the same name, text after the object, and null, which
// leaves the member out. Its errors continue the name of what was read.
func DecodeSettings(text []byte) (*Messenger, error) {
	if err := strictjson.Folded(text, nil); err != nil {
		return nil, err
	}
	m := new(Messenger)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(m); err != nil {
		if _, member, unknown := strings.Cut(err.Error(), "json: unknown field "); unknown {
			return nil, fmt.Errorf("%w %s", ErrUnknownMember, member)
		}
		return nil, errSettingsForm
	}
	var members any
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, errSettingsForm
	}
	if member := nullIn(members, ""); member != "" {
		return nil, fmt.Errorf("has null for %s: give it a value, or leave it out, which sets its default", member)
	}
	return m, nil
}

// nullIn returns the first member that is null or has null in its list, with the names of the members around it, or "".
func nullIn(value any, name string) string {
	switch value := value.(type) {
	case nil:
		return name
	case []any:
		for _, each := range value {
			if found := nullIn(each, name); found != "" {
				return found
			}
		}
	case map[string]any:
		for _, member := range slices.Sorted(maps.Keys(value)) {
			if found := nullIn(value[member], strings.TrimPrefix(name+"."+member, ".")); found != "" {
				return found
			}
		}
	}
	return ""
}
