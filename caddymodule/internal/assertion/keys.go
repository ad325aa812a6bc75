// Package assertion makes the short-lived tokens with which the gateway tells backends who a contact is, and keeps the keys that
// sign them.
//
// All nodes that share a store share the keys. A key is a fact in the store: it is written once, and never changed. Which key
// signs follows from the times of the keys alone, so that the nodes need not agree on anything:
//
//   - a key is published by every node from the moment at which the node has read it;
//   - it signs from an hour after it was made, and until 31 days after; of several keys the oldest signs;
//   - the next key is made a day before that end, so that each key signs for about 30 days;
//   - it is published for a day more, until no assertion of it can be valid anywhere.
//
// It knows neither Caddy nor messengers, and signs with the standard library only. Begin reading with [Keys.Refresh] and
// [Issuer.Assert].
package assertion

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// Folder has the keys, below the folder of the store. It cannot be the name of a messenger.
	Folder = "_assertion"

	// settling is how long a key is published before it signs: backends cache the set for minutes, and clocks differ.
	settling = time.Hour

	// signing is how long after it was made a key signs, and lead how long before that end the next one is made.
	signing = 31 * 24 * time.Hour
	lead    = 24 * time.Hour

	// farewell is how long a key is published after it has stopped to sign, and kept how long it is in the storage after that, at
	// least; see isReplaced.
	farewell = 24 * time.Hour
	kept     = 24 * time.Hour

	// grace is how long a key goes on signing if there is no other, because the storage cannot be written.
	grace = farewell / 2

	// ahead is how far the time of a key may be ahead of this node's clock. A key that is further ahead does not sign.
	ahead = time.Hour
)

// A Writer writes facts; see [vault.Writer].
type Writer interface {
	Append(ctx context.Context, folder string, urgent bool, facts []json.RawMessage) (vault.Written, error)
}

// Keys are the signing keys of a store. They are safe for concurrent use.
type Keys struct {
	vault  *vault.Vault
	writer Writer
	now    func() time.Time

	refreshing sync.Mutex

	mu   sync.Mutex
	keys []*Key               // the oldest first
	read map[string]time.Time // batches, and when their newest key was made; zero for one that is not ours
}

// NewKeys makes the keys of a store, which are not read yet.
func NewKeys(v *vault.Vault, w Writer, now func() time.Time) *Keys {
	return &Keys{vault: v, writer: w, now: now, read: make(map[string]time.Time)}
}

// CheckStore returns an error if the store must not have keys: without a store key they would be written unencrypted to a storage that
// others may read.
func (k *Keys) CheckStore() error {
	if err := k.vault.CheckWritable(); errors.Is(err, vault.ErrNotSealed) {
		return err
	}
	return nil
}

// Refresh reads the keys that other nodes have made, makes one for each algorithm that needs one, and removes those that are not
// published any more. What this node has read stays, whatever happens to the storage.
func (k *Keys) Refresh(ctx context.Context, algs ...string) error {
	k.refreshing.Lock()
	defer k.refreshing.Unlock()
	err := k.load(ctx)
	if err != nil && !vault.IsUnreadable(err) {
		return err // it is unknown what others have made
	}
	for _, alg := range algs {
		if k.isProvided(alg) {
			continue
		}
		if failed := k.make(ctx, alg); failed != nil {
			return errors.Join(err, failed)
		}
	}
	return err
}

// isProvided reports whether a key exists that may still sign in a day. Otherwise the next key has to be made now.
func (k *Keys) isProvided(alg string) bool {
	now := k.now()
	return slices.ContainsFunc(k.list(), func(key *Key) bool {
		return key.Alg == alg && now.Add(lead).Before(key.At.Add(signing)) && !key.At.After(now.Add(ahead))
	})
}

func (k *Keys) make(ctx context.Context, alg string) error {
	key, err := newKey(alg, k.now())
	if err != nil {
		return err
	}
	text, err := json.Marshal(key.fact)
	if err != nil {
		return err
	}
	written, err := k.writer.Append(ctx, Folder, true, []json.RawMessage{text})
	if err != nil {
		return err // if the key was written in spite of the error, the next listing has it
	}
	k.add(written.Key.String(), key)
	return k.load(ctx) // another node may have made one at the same moment
}

// load reads the batches of the storage that were not read yet. If one cannot be read, the next load tries it again.
func (k *Keys) load(ctx context.Context) error {
	names, err := k.vault.List(ctx, path.Join(vault.StoreRoot, Folder, "facts"), false)
	if err != nil {
		return err
	}
	var unreadable error
	for _, name := range names {
		k.mu.Lock()
		newest, known := k.read[name]
		k.mu.Unlock()
		if known {
			if !newest.IsZero() && k.isReplaced(newest) {
				unreadable = errors.Join(unreadable, k.remove(ctx, name))
			}
			continue
		}
		if _, ours := vault.ParseKey(name); !ours {
			continue
		}
		text, err := k.vault.Load(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case vault.IsUnreadable(err):
			unreadable = errors.Join(unreadable, err)
			continue
		case err != nil:
			return err
		}
		if err := k.decode(name, text); err != nil {
			unreadable = errors.Join(unreadable, err)
		}
	}
	return unreadable
}

func (k *Keys) decode(name string, text []byte) error {
	facts, err := vault.DecodeBatch(text)
	if err != nil {
		return err
	}
	keys := make([]*Key, len(facts))
	for i, text := range facts {
		if keys[i], err = readKey(text); err != nil {
			return err
		}
	}
	k.add(name, keys...)
	return nil
}

// add adds the keys of a batch. They are sorted by properties that all nodes see alike, so that all nodes find the same oldest key.
func (k *Keys) add(name string, keys ...*Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Clone(k.keys)
	for _, key := range keys {
		if key.At.After(k.read[name]) {
			k.read[name] = key.At
		}
		if !slices.ContainsFunc(list, func(other *Key) bool { return other.ID == key.ID }) {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(a, b *Key) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	k.keys = list
}

// remove deletes a batch whose keys are of no use to any node, and forgets it.
func (k *Keys) remove(ctx context.Context, name string) error {
	if err := k.vault.Delete(ctx, name); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	made := k.read[name]
	delete(k.read, name)
	k.keys = slices.DeleteFunc(slices.Clone(k.keys), func(key *Key) bool { return !key.At.After(made) })
	return nil
}

// isReplaced reports whether no node needs a key that was made at that time: it is not published any more by this node's clock, and
// two keys that were made weeks apart are newer. On a node with a wrong clock the first
// may hold, and the node makes one newer key as well. The second condition keeps it from removing the key with which all other nodes
// sign.
func (k *Keys) isReplaced(made time.Time) bool {
	if !k.now().After(made.Add(signing + farewell + kept)) {
		return false
	}
	var first time.Time
	for _, key := range k.list() {
		switch {
		case !key.At.After(made):
		case first.IsZero():
			first = key.At
		case key.At.After(first.Add(signing / 2)):
			return true
		}
	}
	return false
}

func (k *Keys) list() []*Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys
}

// signer returns the key that signs now, or nil: the oldest that has been published for an hour. If there is none, as after
// the first start, the oldest that is published signs; but one that should have stopped goes on for a while first.
func (k *Keys) signer(alg string, now time.Time) *Key {
	var first, last *Key
	for _, key := range k.list() {
		switch end := key.At.Add(signing); {
		case key.Alg != alg || key.At.After(now.Add(ahead)) || !now.Before(end.Add(grace)):
		case !now.Before(end):
			last = key
		case !now.Before(key.At.Add(settling)):
			return key
		case first == nil:
			first = key
		}
	}
	return cmp.Or(last, first) // backends know the last one, and may not know the first one yet
}

// Set returns the published keys as a JWK Set (RFC 7517), or nil if there are none.
func (k *Keys) Set() []byte {
	now := k.now()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, key := range k.list() {
		if now.Before(key.At.Add(signing + farewell)) {
			set.Keys = append(set.Keys, key.jwk)
		}
	}
	if len(set.Keys) == 0 {
		return nil
	}
	text, _ := json.Marshal(set) // the keys are JSON
	return text
}

// IsYoung reports whether a key was made a moment ago. While the first keys are made, nodes look for those of others more often.
func (k *Keys) IsYoung() bool {
	list := k.list()
	return len(list) == 0 || k.now().Before(list[len(list)-1].At.Add(time.Minute))
}
