package registry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// signWith signs a token for mark as a site does that holds the shared token.
func signWith(secret, kid string) string {
	header := `{"alg":"HS256"}`
	if kid != "" {
		header = fmt.Sprintf(`{"alg":"HS256","kid":%q}`, kid)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(`{"identity":"mark"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func newUses() *tokenUses {
	l := &Store{uses: make(map[string]*tokenUses)}
	return l.usesOf("support", kindRing)
}

// verdicts returns what a verifier with the ring says to a token of made, without and with its kid.
func verdicts(t *testing.T, keys authn.Keys, made *NewToken) string {
	t.Helper()
	verifier := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys)
	var said []string
	for _, kid := range []string{"", made.KeyID} {
		contact, rej := verifier.Verify(context.Background(), signWith(made.Token, kid), nil)
		switch {
		case rej != nil:
			said = append(said, string(rej.Code))
		case contact.Identity == "mark":
			said = append(said, "mark")
		}
	}
	return strings.Join(said, " ")
}

// A site rotates and forgets about it: the old token is good up to the last nanosecond of the overlap, and not for one
// more. Nothing has to be read or called for that. The clock is faked.
func TestAnOverlapEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(Record)
		old, err := r.Generate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		renewed, err := r.Rotate(time.Now(), DefaultOverlap)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := r.keys(newUses())
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			wait time.Duration
			want string
		}{{0, "mark mark"}, {DefaultOverlap - time.Nanosecond, "mark mark"}, {time.Nanosecond, "signature_invalid key_unknown"}, {time.Hour, "signature_invalid key_unknown"}} {
			time.Sleep(step.wait)
			if got := verdicts(t, keys, old); got != step.want {
				t.Errorf("%s later the old token is %q, want %q", step.wait, got, step.want)
			}
			if got := verdicts(t, keys, renewed); got != "mark mark" {
				t.Errorf("%s later the new token is %q", step.wait, got)
			}
		}
	})
}

// A verified connection may not outlive the token that it was opened with: the contact knows the end of the overlap.
func TestAContactKnowsTheEndOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(Record)
		old, _ := r.Generate(time.Now())
		if _, err := r.Rotate(time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
		keys, err := r.keys(newUses())
		if err != nil {
			t.Fatal(err)
		}
		contact, rej := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys).Verify(context.Background(), signWith(old.Token, ""), nil)
		if rej != nil || !contact.Until.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("got %+v, %v", contact, rej)
		}
	})
}

// A second rotation shortens no overlap that ends earlier, and lengthens none.
func TestRotatingTwiceKeepsTheEarlierEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, r := time.Now(), new(Record)
		first, _ := r.Generate(now)
		second, err := r.Rotate(now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		third, err := r.Rotate(now.Add(time.Minute), 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ends := make(map[string]time.Duration)
		for _, token := range r.Tokens {
			if token.End != nil {
				ends[token.KeyID] = token.End.Sub(now)
			}
		}
		if ends[first.KeyID] != time.Hour || ends[second.KeyID] != 24*time.Hour+time.Minute || ends[third.KeyID] != 0 {
			t.Errorf("got %v", ends)
		}
		if _, err := r.Rotate(now.Add(2*time.Minute), 0); err != nil || len(r.Tokens) != 1 {
			t.Errorf("without an overlap %d tokens are left, %v", len(r.Tokens), err)
		}
	})
}

func TestRingRefusals(t *testing.T) {
	now, r := time.Now(), new(Record)
	if _, err := r.Rotate(now, time.Hour); !errors.Is(err, errEmptyRing) {
		t.Errorf("rotating nothing: %v", err)
	}
	if err := r.Revoke("2026-01-01-abcdef"); !errors.Is(err, ErrNoToken) {
		t.Errorf("revoking nothing: %v", err)
	}
	for range maxRing {
		if _, err := r.Generate(now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Generate(now); !errors.Is(err, errRingFull) {
		t.Errorf("an eleventh: %v", err)
	}
	for _, overlap := range []time.Duration{-1, maxOverlap + 1} {
		if _, err := r.Rotate(now, overlap); err == nil {
			t.Errorf("an overlap of %s is accepted", overlap)
		}
	}
	// Those that have ended take no place.
	if _, err := new(Record).Reset(now); err != nil {
		t.Error(err)
	}
	full := &Record{}
	for range maxRing {
		if _, err := full.Generate(now); err != nil {
			t.Fatal(err)
		}
		end := now.Add(time.Minute)
		full.Tokens[len(full.Tokens)-1].End = &end
	}
	if _, err := full.Generate(now.Add(time.Minute)); err != nil || len(full.Tokens) != 1 {
		t.Errorf("after all have ended: %d tokens, %v", len(full.Tokens), err)
	}
}

// When a token was last used is known to the hour, and costs a store only once in an hour.
func TestLastUseIsKnownToTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, uses := new(Record), newUses()
		made, _ := r.Generate(time.Now())
		keys, err := r.keys(uses)
		if err != nil {
			t.Fatal(err)
		}
		contact, rej := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys).Verify(context.Background(), signWith(made.Token, ""), nil)
		if rej != nil {
			t.Fatal(rej)
		}
		contact.SignedBy.Use(time.Now())
		first := uses.fresh()
		if first[made.KeyID] != time.Now().Unix()/3600 {
			t.Errorf("got %v", first)
		}
		uses.markWritten(first)
		contact.SignedBy.Use(time.Now().Add(time.Second))
		if again := uses.fresh(); len(again) != 0 {
			t.Errorf("the same hour is written again: %v", again)
		}
		time.Sleep(time.Hour)
		contact.SignedBy.Use(time.Now())
		contact.SignedBy.Use(time.Now().Add(-2 * time.Hour))
		if again := uses.fresh(); again[made.KeyID] != first[made.KeyID]+1 {
			t.Errorf("an hour later: %v", again)
		}
	})
}

// Unicode folds the Kelvin sign to k: it is another host.
func TestInternalHostIsASCII(t *testing.T) {
	l := &Store{internal: []string{"keys.internal"}}
	for host, want := range map[string]bool{"keys.internal": true, "KEYS.Internal": true, "\u212aeys.internal": false} {
		if got := l.IsInternal(host, host+":443"); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
