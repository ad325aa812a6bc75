package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A signer is a private key or a secret of a site.
type signer struct {
	private    any // crypto.Signer or []byte
	algorithms []sigkey.Algorithm
}

// sign signs a text with an algorithm, whether or not that is one for keys of its type.
func (s *signer) sign(t testing.TB, alg sigkey.Algorithm, text string) string {
	t.Helper()
	digest := []byte(text)
	if hash := alg.Hash(); hash != 0 {
		h := hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	var signature []byte
	var err error
	switch private := s.private.(type) {
	case []byte:
		mac := hmac.New(alg.Hash().New, private)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg.String(), "PS") {
			signature, err = rsa.SignPSS(cryptorand.Reader, private, alg.Hash(), digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, private, alg.Hash(), digest)
		}
	case *ecdsa.PrivateKey:
		r, v, failed := ecdsa.Sign(cryptorand.Reader, private, digest)
		if err = failed; err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, digest)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + segment(string(signature))
}

// key returns the public key or the secret as the key of a messenger.
func (s *signer) key(t testing.TB, alg sigkey.Algorithm, kid string) *sigkey.Key {
	t.Helper()
	var key *sigkey.Key
	var err error
	if secret, ok := s.private.([]byte); ok {
		key, err = sigkey.ParseShared(secret, kid, alg)
	} else {
		der, _ := x509.MarshalPKIXPublicKey(s.private.(crypto.Signer).Public())
		key, err = sigkey.ParsePublic(der, kid, sigkey.AlgorithmsOf(alg))
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A transitionKey is a key of one of the two methods.
type transitionKey struct {
	signer int
	alg    sigkey.Algorithm
	kid    string
	former bool
}

func randomKeys(t testing.TB, r *rand.Rand, signers []signer, former bool) (keys []transitionKey, set *KeySet) {
	for set == nil {
		keys = nil
		var made []*sigkey.Key
		for range 1 + r.IntN(2) { // more could be more than are tried for one token
			k := transitionKey{signer: r.IntN(len(signers)), kid: []string{"", "a", "b"}[r.IntN(3)], former: former}
			s := &signers[k.signer]
			k.alg = s.algorithms[r.IntN(len(s.algorithms))]
			keys, made = append(keys, k), append(made, s.key(t, k.alg, k.kid))
		}
		set, _ = NewKeySet(made...) // it refuses what cannot be configured
	}
	return keys, set
}

// Random methods follow each other, and tokens arrive that are signed by any key with any algorithm, and name any. One is accepted
// exactly if a key of a method that is used has its algorithm and made its signature: neither the other method's algorithm nor its
// kids, nor a public key as a secret, help anybody.
func TestTokensOfTwoMethods(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalPKIXPublicKey(&privateKey().PublicKey)
	ofRSA, ofSecrets := []sigkey.Algorithm{sigkey.RS256, sigkey.RS512, sigkey.PS256}, []sigkey.Algorithm{sigkey.HS256, sigkey.HS512}
	signers := []signer{
		{privateKey(), ofRSA}, {otherKeys()[0], ofRSA}, {ec, []sigkey.Algorithm{sigkey.ES256}}, {ed, []sigkey.Algorithm{sigkey.EdDSA}},
		{[]byte(strings.Repeat(testSecret, 2)), ofSecrets}, {[]byte(strings.Repeat("another secret ", 5)), ofSecrets},
	}
	forger := signer{der, ofSecrets} // who knows the public key only
	every := []sigkey.Algorithm{sigkey.RS256, sigkey.RS512, sigkey.PS256, sigkey.ES256, sigkey.EdDSA, sigkey.HS256, sigkey.HS512}
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(18, 18))
		accepted := 0
		cache := NewCache(1000)
		for round := range 60 {
			now, nowSet := randomKeys(t, r, signers, false)
			before, beforeSet := randomKeys(t, r, signers, true)
			until := time.Now().Add(time.Hour)
			keys := NewTransition(nowSet, beforeSet, until)
			v := NewVerifier(Policy{IdentityKey: "identity"}, keys)
			type sent struct {
				text string
				by   int // -1 for the forger
				alg  sigkey.Algorithm
				says sigkey.Algorithm
				kid  string
			}
			var tokens []sent
			for range 25 {
				s := sent{by: r.IntN(len(signers)+1) - 1, kid: []string{"", "a", "b", "c"}[r.IntN(4)]}
				who := &forger
				if s.by >= 0 {
					who = &signers[s.by]
				}
				s.alg = who.algorithms[r.IntN(len(who.algorithms))]
				if s.says = s.alg; r.IntN(3) == 0 {
					s.says = every[r.IntN(len(every))]
				}
				header := map[string]string{"alg": s.says.String()}
				if s.kid != "" {
					header["kid"] = s.kid
				}
				text, _ := json.Marshal(header)
				s.text = who.sign(t, s.alg, segment(string(text))+"."+segment(fmt.Sprintf(`{"identity":"mark","jti":"%d"}`, r.IntN(1000))))
				tokens = append(tokens, s)
			}
			all := append(slices.Clone(now), before...)
			check := func(over bool) {
				for _, s := range tokens {
					want := slices.ContainsFunc(all, func(k transitionKey) bool {
						twice := k.former && slices.ContainsFunc(now, func(other transitionKey) bool { return other.signer == k.signer && other.alg != k.alg })
						return k.signer == s.by && k.alg == s.alg && s.says == s.alg && (s.kid == "" || k.kid == "" || k.kid == s.kid) && !(k.former && over) && !twice
					})
					for range 2 { // the second time from the cache
						_, _, rej := cache.Verify(t.Context(), time.Now(), v, s.text, NewClaimSelection(nil), nil)
						if (rej == nil) != want {
							t.Fatalf("round %d, over %v, keys %+v: a token of %d with %s that says %s, kid %q: %v, want accepted %v", round, over, all, s.by, s.alg, s.says, s.kid, rej, want)
						}
					}
					if want {
						accepted++
					}
				}
			}
			check(false)
			time.Sleep(time.Hour - time.Nanosecond)
			check(false)
			time.Sleep(time.Nanosecond)
			check(true)
			if keys.algorithms() != nowSet.algorithms() {
				t.Fatalf("after the end of the method before, %s are accepted, want %s", keys.algorithms().Text(), nowSet.algorithms().Text())
			}
		}
		if accepted < 100 {
			t.Errorf("%d tokens were accepted, which shows nothing", accepted)
		}
	})
}

// A key set of the one method that is not known must not make tokens of the other wait or fail, and decides nothing about its own.
func TestMethodWithoutKeysDoesNotBlockTheOther(t *testing.T) {
	withEngine(t, func(t *testing.T, s *fakeServer, j *JWKS, _ *Verifier) {
		s.set(func() { s.status = http.StatusServiceUnavailable })
		secret := []byte(testSecret)
		hs := signWith(t, secret, "", map[string]any{"identity": "mark"})
		rs, unknown := tokenOf(t, privateKey(), "a"), tokenOf(t, otherKeys()[0], "z")
		until := time.Now().Add(time.Hour)
		ring, _ := NewRing(sigkey.HS256, secretKey(t, testSecret, ""))
		fixed, _ := NewKeySet(publicKey(t, &privateKey().PublicKey, "a"))
		for name, tt := range map[string]struct {
			keys              Keys
			hs, rs, z, rsLast string
		}{
			"from secrets to a set":          {NewTransition(j, ring, until), "ok", "keys_unavailable", "keys_unavailable", "keys_unavailable"},
			"from a set to secrets":          {NewTransition(ring, j, until), "ok", "keys_unavailable", "keys_unavailable", "algorithm_not_allowed"},
			"from a key to a set":            {NewTransition(j, fixed, until), "algorithm_not_allowed", "ok", "keys_unavailable", "keys_unavailable"},
			"from a set to secrets not made": {NewTransition(emptyRing{sigkey.HS256}, fixed, until), "keys_unavailable", "ok", "key_unknown", "algorithm_not_allowed"},
		} {
			v := NewVerifier(Policy{IdentityKey: "identity"}, tt.keys)
			wantVerdict(t, v, hs, tt.hs, name+": a token of the secret")
			wantVerdict(t, v, rs, tt.rs, name+": a token of the key")
			wantVerdict(t, v, unknown, tt.z, name+": a token of an unknown key")
			last := NewVerifier(Policy{IdentityKey: "identity"}, NewTransition(tt.keys.(*transition).now, tt.keys.(*transition).before, time.Now()))
			wantVerdict(t, last, rs, tt.rsLast, name+": a token of the key, after the end")
		}
	})
}

// The same keys were used for any issuer, and are bound to one now. Tokens of other issuers are tokens of the method before, and are
// accepted as long as that is used, whichever of the two is asked first.
func TestPreviousMethodKeysAreNotBoundToTheNewIssuer(t *testing.T) {
	free := publicKey(t, &privateKey().PublicKey, "a")
	bound := free.IssuedBy("https://login.example.com")
	ours := signWith(t, privateKey(), "a", map[string]any{"identity": "mark", "iss": "https://login.example.com"})
	other := signWith(t, privateKey(), "a", map[string]any{"identity": "mark", "iss": "https://other.example.com"})
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		toBound := NewVerifier(Policy{IdentityKey: "identity"}, NewTransition(newKeySet([]*sigkey.Key{bound}), newKeySet([]*sigkey.Key{free}), until))
		toFree := NewVerifier(Policy{IdentityKey: "identity"}, NewTransition(newKeySet([]*sigkey.Key{free}), newKeySet([]*sigkey.Key{bound}), until))
		for _, v := range []*Verifier{toBound, toFree} {
			wantVerdict(t, v, ours, "ok", "of the issuer")
			wantVerdict(t, v, other, "ok", "of another issuer")
		}
		time.Sleep(time.Hour)
		wantVerdict(t, toBound, ours, "ok", "of the issuer, afterwards")
		wantVerdict(t, toBound, other, "issuer_not_allowed", "of another issuer, afterwards")
		wantVerdict(t, toFree, other, "ok", "of another issuer, where the binding was removed")
	})
}

// What two configured methods cannot have together is refused, and not found out by contacts.
func TestIncompatibleMethodsAreRefused(t *testing.T) {
	rs := publicKey(t, &privateKey().PublicKey, "")
	ps := (&signer{private: privateKey()}).key(t, sigkey.PS256, "")
	sets := func(keys ...*sigkey.Key) *KeySet { return newKeySet(keys) }
	var five []*sigkey.Key
	for i := range maxCandidates + 1 {
		five = append(five, rsaKeyNamed(t, "", 2048+i))
	}
	wantError(t, CheckTransition(sets(rs), sets(ps)), "two algorithms")
	wantError(t, CheckTransition(sets(five[:2]...), sets(five[2:]...)), "5 keys for RS256 without a kid", "a kid of its own")
	for _, pair := range [][2]*KeySet{{sets(rs), sets(rs)}, {sets(five[:2]...), sets(five[2:4]...)}, {sets(rs), sets(secretKey(t, testSecret, ""))}} {
		if err := CheckTransition(pair[0], pair[1]); err != nil {
			t.Errorf("%v and %v: %v", pair[0].keys, pair[1].keys, err)
		}
	}
}
