package config

import (
	"errors"
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// DecodeSettings decodes settings of a messenger that a person may have written, as strictly as [strictjson.Decode]: each member is a
// restriction, or may be one, but for a kid and an encoding, which may be empty. Its errors continue the name of what was read.
func DecodeSettings(text []byte) (*Messenger, error) {
	m := new(Messenger)
	err := strictjson.Decode(text, m, strictjson.Exceptions{Empty: []string{"kid", "encoding"}})
	if errors.Is(err, strictjson.ErrType) {
		err = fmt.Errorf("%w; it should be JSON as \"show --json\" prints it under \"settings\"", err)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}
