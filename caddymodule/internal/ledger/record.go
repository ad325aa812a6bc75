package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// The kinds of records. KindStored is a stored messenger; KindRing has the tokens and revocations of a configured one.
const (
	KindStored = "stored"
	KindRing   = "ring"
)

// A Record is what the facts of one messenger say at a moment: the settings of a stored messenger, and the tokens of a stored or
// configured one.
type Record struct {
	Revision string // changes with every change of settings or tokens
	Created  time.Time
	Changed  time.Time // when settings or tokens were changed last
	Settings *config.Messenger
	Tokens   []Token
	Closings uint64 // how often this node has seen tokens being revoked together with their connections

	Unusable error // why the settings cannot be used by this gateway, or nil

	version *Fact
}

// record returns what the ledger says. incarnation tells apart messengers of one name that followed each other.
func (l *ledger) record(incarnation string) *Record {
	r := &Record{Tokens: l.ring(), version: l.version()}
	digest := sha256.New()
	fmt.Fprintln(digest, incarnation)
	if v := r.version; v != nil {
		fmt.Fprintln(digest, v.ID)
		r.Created, r.Changed = v.Created.UTC(), v.At.UTC()
		r.Settings, r.Unusable = l.settings(v)
		fmt.Fprintln(digest, keyHashes(r.Settings), r.Unusable) // a key of these settings may be dropped later
	}
	for _, t := range r.Tokens {
		var end int64
		if t.End != nil {
			end = t.End.UnixNano()
		}
		fmt.Fprintln(digest, t.id, end)
	}
	for _, of := range l.all() {
		r.Closings += of.closings
		for _, f := range of.facts {
			switch f.Kind {
			case factToken, factImported, factExpiry, factRevoked, factReset:
				if f.At.After(r.Changed) {
					r.Changed = f.At.UTC()
				}
				if r.Created.IsZero() || f.At.Before(r.Created) && r.version == nil {
					r.Created = f.At.UTC()
				}
			}
		}
	}
	r.Revision = base32.StdEncoding.EncodeToString(digest.Sum(nil))[:26]
	return r
}

// settings reads the settings of a version. A setting that this version of the gateway does not know may be a restriction, and
// a key that was dropped meanwhile must not come back with them.
func (l *ledger) settings(v *Fact) (*config.Messenger, error) {
	settings := new(config.Messenger)
	decoder := json.NewDecoder(strings.NewReader(string(v.Settings)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(settings); err != nil {
		known := new(config.Messenger)
		if json.Unmarshal(v.Settings, known) == nil {
			return known, vault.ErrNewer
		}
		return known, vault.ErrDamaged
	}
	lost := func(m *config.Messenger) bool {
		named := len(m.PublicKey)
		m.PublicKey = slices.DeleteFunc(m.PublicKey, func(k config.PublicKey) bool { return l.isDropped(v, keyHash(k.Key)) })
		return m.JWKS != nil && l.isDropped(v, keyHash(m.JWKS.Document())) || named > 0 && len(m.PublicKey) == 0
	}
	if p := settings.Previous; p != nil {
		former := p.Settings()
		if p.PublicKey = nil; lost(former) {
			settings.Previous = nil
		} else {
			p.PublicKey = former.PublicKey
		}
	}
	if lost(settings) {
		return settings, fmt.Errorf("the settings name a key or key set that was removed meanwhile; save them again")
	}
	return settings, nil
}

// isDropped reports whether a key is not trusted, although a version names it: that version does not know of the removal. One of a sibling
// counts unless the key was named there again.
func (l *ledger) isDropped(v *Fact, hash string) bool {
	return l.hasDropped(v, hash) || slices.ContainsFunc(l.others, func(other *ledger) bool {
		missed := slices.ContainsFunc(other.dropped[hash], func(f *Fact) bool { return !slices.Contains(v.Knows, f.ID) })
		if !missed {
			return false
		}
		own, named := other.version(), new(config.Messenger)
		_ = json.Unmarshal(own.Settings, named) // what cannot be read trusts no key
		return !slices.Contains(keyHashes(named), hash) || other.hasDropped(own, hash)
	})
}

// hasDropped reports whether l has removed a key, and v, a version of its own, does not know of the removal. A version that was made from
// the one that removed it names it again on purpose, also if the fact was written after it, by a node that was stopped. One that is merely
// later was made from settings before the removal, in a storage that was restored.
func (l *ledger) hasDropped(v *Fact, hash string) bool {
	return slices.ContainsFunc(l.dropped[hash], func(f *Fact) bool {
		return !slices.Contains(v.Knows, f.ID) && !(len(f.Of) > 0 && l.follows(v, f.Of[0]))
	})
}

// keyHash identifies a key in settings, or the URL of a key set.
func keyHash(text string) string {
	return hashOf(strings.TrimSpace(text), 2*idLength)
}

// hashOf returns that many characters of the hash of a text.
func hashOf(text string, length int) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:length])
}

// keyHashes returns the keys and the URLs that settings trust. settings may be nil.
func keyHashes(settings *config.Messenger) (hashes []string) {
	if settings == nil {
		return nil
	}
	for _, k := range settings.PublicKey {
		hashes = append(hashes, keyHash(k.Key))
	}
	if settings.JWKS != nil {
		hashes = append(hashes, keyHash(settings.JWKS.Document()))
	}
	if settings.Previous != nil {
		hashes = append(hashes, keyHashes(settings.Previous.Settings())...)
	}
	return hashes
}

// trustedAt returns settings without a method before that is over at that time.
func trustedAt(settings *config.Messenger, now time.Time) *config.Messenger {
	if settings.Previous == nil || !settings.Previous.IsOver(now) {
		return settings
	}
	trusted := settings.CopySettings()
	trusted.Previous = nil
	return trusted
}

// activeRevocations returns the revocations that are active, the oldest first. Several of the same target are one.
func (l *ledger) activeRevocations(now time.Time) []revocation.Revocation {
	var facts []*Fact
	for f := range l.allActive() {
		if !f.Revocation.HasExpired(now) {
			facts = append(facts, f)
		}
	}
	slices.SortFunc(facts, func(a, b *Fact) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	index := make(map[revocation.Target]int)
	list := []revocation.Revocation{}
	for _, f := range facts {
		v := *f.Revocation
		if i, found := index[v.Target()]; found {
			list[i] = v.Replacing(list[i])
			continue
		}
		index[v.Target()] = len(list)
		list = append(list, v)
	}
	return list
}

// revocationsOf returns the IDs of the active revocations of the same target, also those that they had in other stores: they may come back.
func (l *ledger) revocationsOf(target revocation.Target) (ids []string) {
	for f := range l.allActive() {
		if f.Revocation.Target() == target {
			ids = append(ids, f.ID)
			for _, id := range f.Of {
				if other := l.fact(id); other == nil || other.Kind == factRevoke && other.Revocation.Target() == target {
					ids = append(ids, id)
				}
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
