package ledger

import (
	"errors"
	"fmt"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// MaxLabel is how many bytes the label of a shared token has at most.
const MaxLabel = 64

// ErrInvisible is the error for a text that could look like another one to an operator.
var ErrInvisible = errors.New("has a character that is not visible")

// CheckLabel returns why a text cannot be the label of a shared token. Nothing depends on a label; it is shown to operators, and one
// with invisible characters could look like another. The error goes on after "the label", and does not quote it: a secret may have
// been pasted into the wrong field.
func CheckLabel(label string) error {
	switch {
	case len(label) > MaxLabel:
		return fmt.Errorf("has more than %d bytes", MaxLabel)
	case printable.Line(label) != label:
		return ErrInvisible
	case strings.TrimSpace(label) != label:
		return errors.New("begins or ends with white space")
	case sharedtoken.IsIn(label):
		return errors.New("has a shared token in it, and would show it; write what the token is for")
	}
	return nil
}

var errSecretShown = errors.New("has the secret in it, and would show it; write what the token is for")

// Labelled returns the change with a label for the token that it makes, or why the text cannot be one. A label is stored with the token
// and cannot be changed: a fact of its own kind would make versions of the gateway that do not know it refuse to decide, and an unknown
// member of a fact they ignore.
func (c RingChange) Labelled(label string) (RingChange, error) {
	c.label = label
	if len(c.secret) > 0 && strings.Contains(label, string(c.secret)) {
		return c, errSecretShown
	}
	return c, CheckLabel(label)
}
