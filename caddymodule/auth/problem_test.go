package auth

import (
	"encoding/json"
	"testing"
)

// The body is made once, so what it says of itself is checked once.
func TestProblemBodies(t *testing.T) {
	for code, p := range problems() {
		var body struct {
			Type, Title, Code, Detail string
			Status                    int
		}
		if err := json.Unmarshal(p.body, &body); err != nil {
			t.Errorf("%s: %v", code, err)
			continue
		}
		if body.Type != documentation+string(code) || body.Code != string(code) || body.Status != p.Status || body.Title == "" || body.Detail == "" {
			t.Errorf("%s: got %s", code, p.body)
		}
	}
}
