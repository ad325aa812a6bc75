package ledger

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A site that moves in has a secret already, with which its tokens are signed. It is imported as a shared token: like a generated one
// it is written and never shown, and it is rotated and revoked in the same way.

var (
	errSecretThere = errors.New("the messenger has this secret as a shared token already")

	// Otherwise a secret that has leaked would be accepted again, by a mistake at the site or by an attacker.
	errSecretDead = errors.New("this secret was revoked or has expired at this messenger, and is not accepted again; generate a shared token")

	errKIDThere = errors.New("the messenger has a shared token with this kid already; choose another, or leave it out")
)

// importSecret adds a token with the secret.
func (c RingChange) importSecret(l *ledger, at, now time.Time) (*NewToken, []*Fact, error) {
	ring := activeTokens(l.ring(), now)
	f := NewFact(factImported, at)
	f.KeyID, f.Any, f.Token, f.Label, f.Knows = c.KeyID, c.KeyID == "", base64.RawURLEncoding.EncodeToString(c.secret), c.label, l.resetIDs()
	f.Number = l.number()
	id := secretID(c.secret)
	for _, t := range ring {
		if secretID(t.Secret) == id {
			return nil, nil, errSecretThere
		}
	}
	for other := range l.allTokens() {
		if secretID(other.secret()) == id {
			return nil, nil, errSecretDead
		}
	}
	generated := fingerprintOf(string(c.secret)) // the text of a token that this gateway has made may have been removed since it was ended
	if l.any(func(of *ledger) bool {
		_, expires := of.ends.expiry[generated]
		return of.ends.revoked[generated] || expires
	}) {
		return nil, nil, errSecretDead
	}
	switch {
	case len(ring) >= maxRing:
		return nil, nil, errRingFull
	case f.Any:
		f.KeyID = newKeyID(ring, now)
	case slices.ContainsFunc(ring, func(t Token) bool { return t.KeyID == f.KeyID }):
		return nil, nil, errKIDThere
	}
	return &NewToken{KeyID: f.KeyID, Created: at.UTC().Truncate(time.Second), Label: f.Label}, []*Fact{f}, nil
}

// secret returns the bytes that a token is verified with.
func (f *Fact) secret() []byte {
	if f.Kind != factImported {
		return []byte(f.Token)
	}
	secret, _ := base64.RawURLEncoding.DecodeString(f.Token) // check has refused what it cannot decode
	return secret
}

// secretID identifies a secret. Those that HMAC may not distinguish, because they differ in NUL bytes at their end, have the same.
func secretID(secret []byte) string { return string(bytes.TrimRight(secret, "\x00")) }

// isSecret reports whether an imported token can be used, at least with the algorithm that needs the shortest.
func (f *Fact) isSecret() bool {
	secret, err := base64.RawURLEncoding.DecodeString(f.Token)
	if err == nil {
		_, err = sigkey.ParseShared(secret, "", sigkey.HS256)
	}
	return err == nil
}
