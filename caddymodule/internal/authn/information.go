package authn

import (
	"bytes"
	"encoding/json"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// An information knows the claims of Policy.ContactClaims. It is nil if there are none.
type information struct {
	index map[string]int
	names []string // each as it is written in front of its value
}

func newInformation(claims []string) *information {
	if len(claims) == 0 {
		return nil
	}
	f := &information{index: make(map[string]int, len(claims)), names: make([]string, len(claims))}
	for i, claim := range claims {
		name, _ := json.Marshal(claim) // a string always has a form
		f.index[claim], f.names[i] = i, string(name)+":"
	}
	return f
}

// take records the value of a member of the payload if it is one of the claims, and reports whether it is. One that is null counts as absent,
// as everywhere.
func (f *information) take(c *claims, name, value []byte) bool {
	i, wanted := f.index[string(name)]
	if !wanted || strictjson.IsNull(value) {
		return false
	}
	if c.information == nil {
		c.information = make([][]byte, len(f.names))
	}
	c.information[i] = value
	return true
}

// text returns the claims that were found as one object. Only blanks between tokens are removed: a number keeps its digits, and a
// string its escapes, so that no reader gets another value than the one that was signed.
func (f *information) text(c *claims) string {
	if f == nil || c.information == nil {
		return ""
	}
	var object bytes.Buffer
	separator := byte('{')
	for i, value := range c.information {
		if value == nil {
			continue
		}
		object.WriteByte(separator)
		object.WriteString(f.names[i])
		_ = json.Compact(&object, value) // strictjson.Object has checked the syntax
		separator = ','
	}
	object.WriteByte('}')
	return object.String()
}
