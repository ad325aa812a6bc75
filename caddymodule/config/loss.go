package config

import (
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A Loss is what a change of settings takes out of use.
type Loss struct {
	Tokens, PublicKeys, KeySets int
}

// Count returns how many there are of all.
func (l Loss) Count() int { return l.Tokens + l.PublicKeys + l.KeySets }

// String names them: "2 shared tokens and 1 public key".
func (l Loss) String() string {
	var parts []string
	add := func(n int, name string) {
		if n > 0 {
			parts = append(parts, cause.Counted(n, name))
		}
	}
	add(l.Tokens, "shared token")
	add(l.PublicKeys, "public key")
	add(l.KeySets, "key set")
	if last := len(parts) - 1; last > 0 {
		return strings.Join(parts[:last], ", ") + " and " + parts[last]
	}
	return strings.Join(parts, "")
}

// Lost returns what next takes out of use that m has in use. tokens is how many shared tokens the ring of the messenger has. A method
// that next uses for some time more is not lost, unless m was to use it for longer.
func (m *Messenger) Lost(next *Messenger, now time.Time, tokens int) (lost Loss) {
	lost.add(m, next, now, tokens, time.Time{})
	if !m.Previous.IsOver(now) {
		lost.add(m.Previous.Settings(), next, now, tokens, m.Previous.Until)
	}
	return lost
}

// add counts the keys of one method that next takes out of use, or uses for a shorter time than until.
func (l *Loss) add(method, next *Messenger, now time.Time, tokens int, until time.Time) {
	staying := []*Messenger{next}
	if !next.Previous.IsOver(now) && !next.Previous.Until.Before(until) {
		staying = append(staying, next.Previous.Settings())
	}
	stays := func(same func(*Messenger) bool) bool { return slices.ContainsFunc(staying, same) }
	switch {
	case method.IsGenerated():
		if !stays(func(m *Messenger) bool { return m.IsGenerated() && m.accepts(method.SigningAlgorithms()) }) {
			l.Tokens += tokens
		}
	case method.JWKS != nil:
		if !stays(func(m *Messenger) bool {
			return m.JWKS != nil && m.JWKS.Document() == method.JWKS.Document() && m.accepts(method.SigningAlgorithms())
		}) {
			l.KeySets++
		}
	default:
		for _, k := range method.PublicKey {
			if !stays(func(m *Messenger) bool { return slices.ContainsFunc(m.PublicKey, k.isVerifiedBy) }) {
				l.PublicKeys++
			}
		}
	}
}

// accepts reports whether m takes tokens with each of these algorithms.
func (m *Messenger) accepts(algorithms sigkey.Algorithms) bool {
	return algorithms&^m.SigningAlgorithms() == 0
}

// isVerifiedBy reports whether other verifies every token that k verifies.
func (k PublicKey) isVerifiedBy(other PublicKey) bool {
	if k == other {
		return true
	}
	a, err := k.Parse([]byte(k.Key))
	if err != nil {
		return false
	}
	b, err := other.Parse([]byte(other.Key))
	return err == nil && b.VerifiesAllOf(a)
}

// KeySetURLs returns the URLs at which the keys of m are.
func (m *Messenger) KeySetURLs() (urls []string) {
	for _, j := range m.keySets() {
		urls = append(urls, j.Document())
	}
	return urls
}
