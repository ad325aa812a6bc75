package assertion

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Three nodes with clocks that are 30 minutes apart run for more than a month, and their keys change. Backends fetch the set from
// any of them, and then use it for 10 minutes, whatever they meet: no assertion fails. The nodes find out about each other every
// 10 minutes only, and one of them is restarted now and then.
func TestNoVerificationFailsWhileKeysChange(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	now := start
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	offsets := []time.Duration{-30 * time.Minute, 0, 30 * time.Minute}
	nodes := newNodes(t, &now, storage, EdDSA, offsets...)
	for _, n := range nodes {
		n.refresh(t, EdDSA)
	}
	sets := make([][]byte, 3) // of the backends
	signers := make(map[string]bool)
	rotated := ""
	step := 20 * time.Minute
	if testsize.Soaking() {
		step = 5 * time.Minute
	}
	for i := 0; now.Before(start.Add(65 * 24 * time.Hour)); i++ {
		if i%2 == 0 {
			for b := range sets {
				sets[b] = nodes[(i/2+b)%3].Set()
			}
		} else {
			for _, n := range nodes {
				n.refresh(t, EdDSA)
			}
		}
		if i%1000 == 999 {
			nodes[i%3] = newNodes(t, &now, storage, EdDSA, offsets[i%3])[0]
			nodes[i%3].refresh(t, EdDSA)
		}
		for n, node := range nodes {
			text, err := node.issuer.Assert(&Subject{Messenger: "support", Identity: fmt.Sprint(i)}, node.now())
			if err != nil {
				t.Fatal(err)
			}
			header, _, _ := strings.Cut(text, ".")
			var named struct{ Kid string }
			if err := json.Unmarshal(decode(t, header), &named); err != nil {
				t.Fatal(err)
			}
			for b, set := range sets {
				if !strings.Contains(string(set), named.Kid) {
					t.Fatalf("after %s: node %d signs with a key that backend %d does not have", now.Sub(start), n, b)
				}
				if (i+n+b)%64 != 0 && len(signers) != 0 && i%50 != 0 {
					continue // the signatures of a part of them, for the time
				}
				if _, err := verify(t, set, text); err != nil {
					t.Fatalf("after %s: node %d, backend %d: %v", now.Sub(start), n, b, err)
				}
			}
			if signers[header] = true; rotated == "" {
				rotated = text
			}
		}
		now = now.Add(step)
	}
	if len(signers) < 3 || len(signers) > 9 {
		t.Errorf("%d keys have signed in 65 days, want about one a month", len(signers))
	}
	for i, n := range nodes {
		if _, err := verify(t, n.Set(), rotated); err == nil {
			t.Errorf("node %d still publishes the key of the first month", i)
		}
		if len(n.list()) > 6 {
			t.Errorf("node %d has %d keys", i, len(n.list()))
		}
	}
}

// The rules of the package comment one by one. Each leaves room for a mistake in another one, so that the test above may pass with
// one of them broken.
func TestKeyRotationRules(t *testing.T) {
	key := func(age time.Duration) *Key {
		return &Key{fact: fact{ID: fmt.Sprint(age), At: start.Add(-age), Alg: EdDSA}}
	}
	for name, test := range map[string]struct {
		keys     []*Key // the oldest first, as Keys has them
		signs    string
		provided bool
	}{
		"no key":                             {nil, "", false},
		"the first key signs at once":        {[]*Key{key(0)}, "0s", true},
		"a key settles for an hour":          {[]*Key{key(30 * 24 * time.Hour), key(59 * time.Minute)}, "720h0m0s", true},
		"the oldest key signs":               {[]*Key{key(30 * 24 * time.Hour), key(24 * time.Hour)}, "720h0m0s", true},
		"the next one is made a day before":  {[]*Key{key(30 * 24 * time.Hour)}, "720h0m0s", false},
		"and no sooner":                      {[]*Key{key(30*24*time.Hour - time.Second)}, "719h59m59s", true},
		"a key signs for 31 days":            {[]*Key{key(31 * 24 * time.Hour), key(time.Hour)}, "1h0m0s", true},
		"an old key waits for one to settle": {[]*Key{key(31 * 24 * time.Hour), key(59 * time.Minute)}, "744h0m0s", true},
		"but for 12 hours only":              {[]*Key{key(31*24*time.Hour + 12*time.Hour), key(59 * time.Minute)}, "59m0s", true},
		"a key of a wrong clock is not used": {[]*Key{key(-2 * time.Hour)}, "", false},
		"one of a clock that is ahead is":    {[]*Key{key(-59 * time.Minute)}, "-59m0s", true},
	} {
		k := NewKeys(nil, nil, func() time.Time { return start })
		k.add("facts", test.keys...)
		got := ""
		if signer := k.signer(EdDSA, start); signer != nil {
			got = signer.ID
		}
		if got != test.signs || k.isProvided(EdDSA) != test.provided || k.signer(ES256, start) != nil {
			t.Errorf("%s: the key of %q signs, and provided is %v", name, got, k.isProvided(EdDSA))
		}
	}
}

// An attacker who can write to the storage, but does not have the store key, adds and changes nothing; and what is damaged does not
// stop what works.
func TestStorageAttackersCannotAddKeys(t *testing.T) {
	now := start
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	n := newNodes(t, &now, storage, EdDSA, 0)[0]
	n.refresh(t, EdDSA)
	before := string(n.Set())
	stranger, err := newKey(EdDSA, now.Add(-40*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(stranger.fact)
	if err := storage.Store(context.Background(), "messenger/_assertion/facts/abcdefghijklmnop-1", []byte(`{"format":1,"facts":[`+string(text)+`]}`)); err != nil {
		t.Fatal(err)
	}
	if err := n.Refresh(context.Background(), EdDSA); !vault.IsUnreadable(err) {
		t.Errorf("a value that is not sealed: got %v", err)
	}
	if got := string(n.Set()); got != before {
		t.Errorf("the set has become %s", got)
	}
	for name, change := range map[string]func(f *fact){
		"another algorithm than its key's": func(f *fact) { f.Alg = ES256 },
		"no algorithm":                     func(f *fact) { f.Alg = "none" },
		"no time":                          func(f *fact) { f.At = time.Time{} },
		"no key":                           func(f *fact) { f.Private = nil },
		"another kind":                     func(f *fact) { f.Kind = "token" },
	} {
		f := stranger.fact
		change(&f)
		text, _ := json.Marshal(f)
		if _, err := readKey(text); err == nil || strings.Contains(err.Error(), f.ID) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A key of a node whose clock is far ahead is not signed with before its time.
func TestFutureKeyDoesNotSign(t *testing.T) {
	now := start
	nodes := newNodes(t, &now, &certmagic.FileStorage{Path: t.TempDir()}, EdDSA, 48*time.Hour, 0)
	nodes[0].refresh(t, EdDSA)
	nodes[1].refresh(t, EdDSA)
	if k := nodes[1].signer(EdDSA, now); k == nil || k.At.After(now) {
		t.Errorf("it signs with %+v", k)
	}
}

// A node whose clock is weeks ahead takes the key of all others for an old one. It must not remove it: a node that starts then would
// sign with a key that no backend knows. By right clocks old keys are removed, so that there are never many.
func TestWrongClockDoesNotRemoveKeys(t *testing.T) {
	now := start
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	right := newNodes(t, &now, storage, EdDSA, 0)[0]
	right.refresh(t, EdDSA)
	used := right.signer(EdDSA, now).ID
	wrong := newNodes(t, &now, storage, EdDSA, 40*24*time.Hour)[0]
	for range 3 {
		wrong.refresh(t, EdDSA, ES256)
		now = now.Add(time.Minute)
	}
	started := newNodes(t, &now, storage, EdDSA, 0)[0]
	started.refresh(t, EdDSA)
	if k := started.signer(EdDSA, now); k == nil || k.ID != used || !strings.Contains(string(started.Set()), used) {
		t.Fatalf("a node that starts does not sign with the key of the others: %v", k == nil)
	}
	stored := func() []string {
		names, err := right.vault.List(context.Background(), "messenger/_assertion/facts", false)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := stored()
	for range 70 {
		now = now.Add(72 * time.Hour)
		right.refresh(t, EdDSA)
		if n := len(stored()); n > len(before)+4 {
			t.Fatalf("there are %d keys", n)
		}
	}
	for _, name := range stored() {
		if name == before[0] {
			t.Error("the first key is still in the storage after half a year")
		}
	}
}
