package vault

import (
	"bytes"
	"context"
	"encoding/json"
)

// LoadJSON reads a value that is not a fact. Such a value is informative only: one with a member that this version does not know,
// which may be a restriction, is not used.
func (v *Vault) LoadJSON(ctx context.Context, key string, value any) error {
	text, err := v.Load(ctx, key)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(value) != nil || decoder.More() {
		return ErrDamaged // the decoder's error could quote a secret
	}
	return nil
}

// SaveJSON writes such a value.
func (v *Vault) SaveJSON(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return v.Save(ctx, key, text)
}
