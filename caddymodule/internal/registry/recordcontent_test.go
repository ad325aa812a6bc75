package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// contents are what may be found in the storage where a stored messenger should be: written by hand, by another version,
// or by somebody who means harm.
var contents = []string{
	``, `null`, `0`, `""`, `[]`, `{}`, `{"settings":null}`, `{"settings":{}}`, `{"settings":{"identity_key":"id"}}`,
	`{"settings":{"identity_key":"id","shared_token":{}}}`,
	`{"settings":{"identity_key":"id","shared_token":{},"jwks":{}}}`,
	`{"settings":{"identity_key":"id","public_key":[null]}}`,
	`{"settings":{"identity_key":"id","public_key":[{}],"jwks":null,"shared_token":null}}`,
	`{"settings":{"identity_key":"id","jwks":{"url":"%zz"}}}`,
	`{"settings":{"identity_key":"id","jwks":{"url":"https://keys.example","timeout":-1}}}`,
	`{"settings":{"identity_key":"id","shared_token":{"token":"{env.HOME}"}}}`,
	`{"settings":{"identity_key":"id","shared_token":{},"clock_skew":-9223372036854775808,"max_lifetime":9223372036854775807,"max_session":-1}}`,
	`{"settings":{"identity_key":"id","shared_token":{},"mode":"x","fail_limit":{},"issuer":[""],"audience":["a","a"]}}`,
	`{"settings":{"identity_key":"id","shared_token":{},"allowed_origin":["::","\u0000"]}}`,
	`{"settings":{"identity_key":"id","shared_token":{},"from_a_newer_version":1}}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"tokens":[null,{},{"kid":"a","token":"short"}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"tokens":null,"revocations":[null]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[{}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[{"jti":"a","issued_before":"2026-01-01T00:00:00Z"}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[{"identity":"mark"}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[{"all":true,"identity":"mark","jti":"a"}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[{"all":true,"issued_before":"9999-12-31T23:59:59-23:00","clock_skew":9223372036854775807}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"created":"9999-12-31T23:59:59-23:00","changed":"0000-01-01T00:00:00+23:00"}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"tokens":[{"kid":"a","token":"","created":"9999-12-31T23:59:59-23:00","end":"9999-12-31T23:59:59-23:00"}]}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"version":18446744073709551615,"revision":"\u0000\"<script>"}`,
	`{"settings":{"identity_key":"id","shared_token":{}}} {}`,
	`{"settings":{"identity_key":"` + strings.Repeat("x", vault.MaxValue) + `","shared_token":{}}}`,
	`{"settings":{"identity_key":"id","shared_token":{}},"revocations":[` + strings.Repeat(" ", vault.MaxValue) + `]}`,
	strings.Repeat("[", 20_000),
}

// tryContent puts content where a messenger's record is, and does all that anybody can do with it. None of that may panic;
// and nobody is told that all is well.
func tryContent(t *testing.T, n *testNode, content string) {
	s := n.storage.server
	s.set(registry.StoreKey("acme", registry.KindStored), n.Store.Seal.Seal(registry.StoreKey("acme", registry.KindStored), []byte(content)))
	s.set(registry.StoreKey("support", registry.KindRing), n.Store.Seal.Seal(registry.StoreKey("support", registry.KindRing), []byte(content)))
	(*n.Store.Stored()).Invalidate("acme")
	for _, name := range []string{"acme", "support"} {
		_ = n.Store.Reread(t.Context(), name)
	}
	m, rej := n.Find(t.Context(), "acme")
	if rej == nil {
		_, _ = m.Readiness(), admin.DescribeKeys(m)
		_ = m.Unavailable()
	}
	admin := func(method, path, body string) {
		r := httptest.NewRequest(method, "http://caddy/messenger/"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", "*")
		w := httptest.NewRecorder()
		err := n.ServeAdmin(w, r)
		if err == nil && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s answers %q", method, path, w.Body)
		}
		if err != nil && !errors.As(err, new(caddy.APIError)) {
			t.Errorf("%s %s fails with %v", method, path, err)
		}
		var d admin.Description
		if err == nil && json.Unmarshal(w.Body.Bytes(), &d) == nil && d.Settings != nil {
			if rej != nil && d.Name == "acme" && len(d.Warnings) == 0 {
				t.Errorf("requests are answered with %s, and %s says nothing of it", rej.Code, w.Body)
			}
		}
	}
	admin("GET", "messengers", "")
	for _, name := range []string{"acme", "support"} {
		for _, what := range []string{"", "/keys", "/readiness", "/tokens", "/revocations"} {
			admin("GET", "messengers/"+name+what, "")
		}
		admin("POST", "messengers/"+name+"/explain", `{"token":"a.b.c"}`)
		admin("POST", "messengers/"+name+"/refresh", `{}`)
		for _, body := range []string{`{"jti":"a"}`, `{"identity":"mark"}`, `{"all":true}`} {
			admin("POST", "messengers/"+name+"/revocations", body)
			admin("DELETE", "messengers/"+name+"/revocations", body)
		}
		admin("POST", "messengers/"+name+"/tokens/rotate", `{}`)
		admin("POST", "messengers/"+name+"/tokens/revoke", `{"kid":"a"}`)
		admin("POST", "messengers/"+name+"/tokens/generate", `{}`)
	}
	admin("PUT", "messengers/acme", `{"identity_key":"id","shared_token":{}}`)
	admin("DELETE", "messengers/acme", "")
}

func newMeteredNode(t *testing.T, name string) *testNode {
	n := newTestNode(t, newServer(), name)
	for _, m := range n.Messengers {
		m.TakeMeter()
		t.Cleanup(m.Cleanup)
	}
	return n
}

// Whatever is stored where a messenger should be: it is shown, or it is said what is wrong, and nothing panics.
func TestNoStoredContentPanics(t *testing.T) {
	n := newMeteredNode(t, "content")
	for _, content := range contents {
		tryContent(t, n, content)
	}
}

func FuzzStoredContent(f *testing.F) {
	for _, content := range contents {
		if len(content) < 10_000 {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content string) { tryContent(t, newMeteredNode(t, "fuzzed"), content) })
}

// A value is measured before it is read, wherever it is: the storage is not even asked for one that is too large.
func TestLargeValuesAreNotRead(t *testing.T) {
	n := newTestNode(t, newServer(), "large")
	s := &measured{nodeStorage: n.storage, size: registry.SizeLimit(registry.StoreKey("acme", registry.KindStored)) + 1}
	n.Store.Use(s)
	defer n.Store.Drop(s)
	for _, key := range []string{registry.StoreKey("acme", registry.KindStored), registry.StoreKey("support", registry.KindRing), vault.ChangesKey, registry.KeySetKey("https://keys.example"), registry.StoreKey("acme", registry.UsesKind(registry.KindStored))} {
		if _, err := n.Store.LoadRaw(t.Context(), key); !errors.Is(err, vault.ErrTooLarge) || !strings.Contains(err.Error(), key) || !vault.IsUnreadable(err) {
			t.Errorf("%s: got %v", key, err)
		}
	}
	s.unmeasured = true
	if _, err := n.Store.LoadRaw(t.Context(), vault.ChangesKey); !errors.Is(err, vault.ErrTooLarge) {
		t.Errorf("from a storage that does not measure: got %v", err)
	}
	if s.loads != 1 {
		t.Errorf("%d values were read", s.loads)
	}
}

// A measured storage says that all its values have one size.
type measured struct {
	*nodeStorage
	size       int64
	unmeasured bool
	loads      int
}

func (s *measured) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	if s.unmeasured {
		return certmagic.KeyInfo{}, errFailed
	}
	return certmagic.KeyInfo{Key: key, Size: s.size, Modified: time.Now(), IsTerminal: true}, nil
}

func (s *measured) Load(context.Context, string) ([]byte, error) {
	s.loads++
	return make([]byte, s.size), nil
}
