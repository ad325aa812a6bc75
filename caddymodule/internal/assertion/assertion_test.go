package assertion

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A node is one gateway, with a clock of its own.
type node struct {
	*Keys
	offset time.Duration
	issuer *Issuer
}

var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// newNodes makes nodes that share a storage. Their clocks differ from now by the offsets.
func newNodes(t *testing.T, now *time.Time, storage certmagic.Storage, alg string, offsets ...time.Duration) (nodes []*node) {
	t.Helper()
	for _, offset := range offsets {
		seal, err := vault.NewSealer([][]byte{make([]byte, vault.SealKeySize)})
		if err != nil {
			t.Fatal(err)
		}
		v := vault.New(seal, func() {})
		v.Use(storage)
		w := vault.NewWriter(v)
		w.Wrote = func(vault.Key, []json.RawMessage) int { return 0 }
		t.Cleanup(w.Stop)
		n := &node{offset: offset}
		n.Keys = NewKeys(v, w, func() time.Time { return now.Add(n.offset) })
		n.issuer = NewIssuer(n.Keys, alg, "https://chat.example.com", []string{"chat-backend"}, time.Minute, []string{"name", "plan"})
		nodes = append(nodes, n)
	}
	return nodes
}

func (n *node) refresh(t *testing.T, algs ...string) {
	t.Helper()
	if err := n.Refresh(context.Background(), algs...); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// verify checks an assertion as a backend does that knows this set, and returns its payload.
func verify(t *testing.T, set []byte, text string) (payload map[string]any, err error) {
	t.Helper()
	parts := strings.Split(text, ".")
	var header struct{ Alg, Kid, Typ string }
	var keys struct{ Keys []map[string]string }
	if err := errors.Join(json.Unmarshal(decode(t, parts[0]), &header), json.Unmarshal(set, &keys)); err != nil {
		t.Fatal(err)
	}
	signed, signature := []byte(parts[0]+"."+parts[1]), decode(t, parts[2])
	digest := sha256.Sum256(signed)
	for _, key := range keys.Keys {
		if key["kid"] != header.Kid {
			continue
		}
		if key["d"] != "" || key["alg"] != header.Alg || header.Typ != "JWT" || key["use"] != "sig" {
			t.Fatalf("the set has %v for %v", key, header)
		}
		number := func(name string) *big.Int { return new(big.Int).SetBytes(decode(t, key[name])) }
		valid := false
		switch header.Alg {
		case EdDSA:
			valid = ed25519.Verify(decode(t, key["x"]), signed, signature)
		case ES256:
			public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, decode(t, key["x"]), decode(t, key["y"])))
			if err != nil {
				t.Fatal(err)
			}
			valid = ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		case RS256:
			valid = rsa.VerifyPKCS1v15(&rsa.PublicKey{N: number("n"), E: int(number("e").Int64())}, crypto.SHA256, digest[:], signature) == nil
		}
		if !valid {
			return nil, errors.New("the signature is invalid")
		}
		return payload, json.Unmarshal(decode(t, parts[1]), &payload)
	}
	return nil, fmt.Errorf("the set does not have the key %s", header.Kid)
}

// What an assertion says, with every algorithm, and that no claim of a site passes for one of the gateway's.
func TestAssertionIdentifiesTheContact(t *testing.T) {
	now := start
	for _, alg := range Algorithms {
		n := newNodes(t, &now, &certmagic.FileStorage{Path: t.TempDir()}, alg, 0)[0]
		if n.Set() != nil {
			t.Errorf("%s: a set without keys is %s", alg, n.Set())
		}
		if _, err := n.issuer.Assert(&Subject{Identity: "mark"}, now); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: without a key got %v", alg, err)
		}
		n.refresh(t, alg)
		text, err := n.issuer.Assert(&Subject{Messenger: "support", Identity: "9007199254740993", Object: `{"sub":"eve","vip":9007199254740993,"name":"Zoë <b>"}`, Texts: []string{"other", "gold"}}, now)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := verify(t, n.Set(), text)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(payload["iss"], payload["aud"], payload["sub"], payload["messenger"], payload["iat"], payload["exp"], len(payload)),
			fmt.Sprint("https://chat.example.com", "chat-backend", "9007199254740993", "support", float64(now.Unix()), float64(now.Unix()+60), 7); got != want {
			t.Errorf("%s: got %s, want %s", alg, got, want)
		}
		if got := string(decode(t, strings.Split(text, ".")[1])); !strings.Contains(got, `"claims":{"sub":"eve","vip":9007199254740993,"name":"Zoë \u003cb\u003e","plan":"gold"}`) {
			t.Errorf("%s: got %s", alg, got)
		}
	}
}

// One assertion serves a contact for half of its lifetime, and no other contact; and none is valid for longer than the token.
func TestAssertionsAreCachedPerContact(t *testing.T) {
	now := start
	n := newNodes(t, &now, &certmagic.FileStorage{Path: t.TempDir()}, EdDSA, 0)[0]
	n.refresh(t, EdDSA)
	of := func(s Subject) string {
		t.Helper()
		text, err := n.issuer.Assert(&s, now)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	exp := func(text string) time.Duration {
		t.Helper()
		payload, err := verify(t, n.Set(), text)
		if err != nil {
			t.Fatal(err)
		}
		return time.Unix(int64(payload["exp"].(float64)), 0).Sub(now)
	}
	mark := Subject{Messenger: "support", Identity: "mark", Object: `{"a":1}`, Texts: []string{"ab", "c"}}
	first := of(mark)
	for name, change := range map[string]func(s *Subject){
		"another messenger":                   func(s *Subject) { s.Messenger = "sales" },
		"another contact":                     func(s *Subject) { s.Identity = "eve" },
		"a name that ends in the messenger's": func(s *Subject) { s.Messenger, s.Identity = "supportm", "ark" },
		"another claim":                       func(s *Subject) { s.Object = `{"a":2}` },
		"texts that are divided elsewhere":    func(s *Subject) { s.Texts = []string{"a", "bc"} },
	} {
		other := mark
		if change(&other); of(other) == first {
			t.Errorf("%s has the same assertion", name)
		}
	}
	if now = start.Add(29 * time.Second); of(mark) != first {
		t.Error("the second assertion is made before half of the lifetime has passed")
	}
	if now = start.Add(31 * time.Second); of(mark) == first {
		t.Error("the first assertion is used after half of its lifetime")
	}
	if now = start.Add(-time.Hour); of(mark) == first {
		t.Error("an assertion of the future is used after the clock was set back")
	}
	now = start.Add(time.Hour)
	short := mark
	short.Expires, short.Until = now.Add(10*time.Second), now.Add(70*time.Second)
	long := of(mark)
	text := of(short)
	if got := exp(text); got != 10*time.Second {
		t.Errorf("an assertion about a token that expires in 10s is valid for %s", got)
	}
	if of(mark) != text && exp(long) != time.Minute {
		t.Error("the longer one was lost")
	}
	now = now.Add(9 * time.Second)
	if got := of(short); got != text {
		t.Error("an assertion that ends with its token was made again, and cannot be better")
	}
	now = now.Add(30 * time.Second) // in the time of the clock skew
	if got := exp(of(short)); got != 31*time.Second {
		t.Errorf("in the clock skew it is valid for %s, want 31s", got)
	}
}

func BenchmarkAssert(b *testing.B) {
	now := start
	k := NewKeys(nil, nil, func() time.Time { return now })
	for _, alg := range Algorithms {
		key, err := newKey(alg, now)
		if err != nil {
			b.Fatal(err)
		}
		k.add(alg, key)
	}
	i := NewIssuer(k, EdDSA, "https://chat.example.com", []string{"chat-backend"}, time.Minute, nil)
	subjects := make([]Subject, 10_000)
	for n := range subjects {
		subjects[n] = Subject{Messenger: "support", Identity: fmt.Sprint("contact-", n), Object: `{"name":"Mark Twain","email":"mark.twain@example.com"}`, Expires: now.Add(time.Hour), Until: now.Add(2 * time.Hour)}
	}
	b.Run("hot", func(b *testing.B) {
		for n := range subjects {
			_, _ = i.Assert(&subjects[n], now)
		}
		for n := 0; b.Loop(); n++ {
			_, _ = i.Assert(&subjects[n%len(subjects)], now)
		}
	})
	for _, alg := range Algorithms {
		b.Run("signing "+alg, func(b *testing.B) {
			i.alg = alg
			for b.Loop() {
				_, _ = i.sign(&subjects[0], now, 0)
			}
		})
	}
}
