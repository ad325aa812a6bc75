package auth

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
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

// A page tells refused handshakes from each other by the close codes that it knows from connections that ended: log in, do not come
// back, or come back later. A code says the same by its status and by its close code.
func TestRefusalsCloseWithTheCodesOfConnections(t *testing.T) {
	closed := map[int][]int{
		http.StatusBadRequest:         {session.Expired.Code},
		http.StatusUnauthorized:       {session.Expired.Code},
		http.StatusForbidden:          {session.Revoked.Code},
		http.StatusNotFound:           {session.Expired.Code},
		http.StatusTooManyRequests:    {session.TooMany.Code, registry.TryAgainLater},
		http.StatusServiceUnavailable: {registry.TryAgainLater},
	}
	for code, p := range problems() {
		if !slices.Contains(closed[p.Status], p.Close) {
			t.Errorf("%s: its row in authn/codetable.go has the status %d and the close code %d, want one of %v", code, p.Status, p.Close, closed[p.Status])
		}
	}
	if got := problemOf(authn.Code(session.TooMany.Reason)); got == nil || got.Close != session.TooMany.Code {
		t.Errorf("a contact with too many connections is refused with %+v and ended with %+v", got, session.TooMany)
	}
}
