package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"sync"
	"time"
)

// A loadedList is the list of a writer as it was loaded. One that cannot be read has format 0.
type loadedList struct {
	changeList
	digest [sha256.Size]byte // of what is stored
}

// load loads the lists. A list that does not exist is nil.
func (f *Follower) load(ctx context.Context, keys []string) (lists []*loadedList, origin string, err error) {
	lists = make([]*loadedList, len(keys))
	err = UntilError(ctx, append(keys, OriginKey), func(i int, key string) (err error) {
		if key == OriginKey {
			origin, err = f.vault.readOrigin(ctx)
			return err
		}
		stored, err := f.vault.fetch(ctx, key, MaxValue)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was removed meanwhile, or is about to be written for the first time
			return nil
		case err != nil && !IsUnreadable(err):
			f.vault.failed(ctx)
			return err
		}
		list := &loadedList{digest: sha256.Sum256(stored)}
		lists[i] = list
		text, err := f.vault.Seal.Open(key, stored)
		if err != nil {
			f.vault.Failed()
			return nil
		}
		if json.Unmarshal(text, &list.changeList) != nil || list.Format > Format {
			list.changeList = changeList{}
		}
		return nil
	})
	return lists, origin, err
}

// unreadableLists has the lists that cannot be read, by writer, for example because the key with which they were sealed is lost. Each
// change of such a list makes a node read everything again.
type unreadableLists struct {
	mu    sync.Mutex
	lists map[string]unreadableList
}

type unreadableList struct {
	digest [sha256.Size]byte
	since  time.Time
}

// hasChanged records a list that cannot be read, and reports whether it was written since the last call.
func (c *unreadableLists) hasChanged(writer string, digest [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, found := c.lists[writer]; found && known.digest == digest {
		return false
	}
	if c.lists == nil {
		c.lists = make(map[string]unreadableList)
	}
	c.lists[writer] = unreadableList{digest, Now()}
	return true
}

// remove forgets the lists of writers for which gone returns true: they were removed, or can be read again.
func (c *unreadableLists) remove(gone func(writer string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.lists, func(writer string, _ unreadableList) bool { return gone(writer) })
}

// isSilent reports whether the list of a writer could not be read and has not changed for maxSilent.
func (c *unreadableLists) isSilent(writer string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, found := c.lists[writer]
	return found && Now().Sub(known.since) > maxSilent
}

// OriginKey has the origin, a random value that the first node writes. If it is missing or different, the storage was emptied. The
// notification alone does not show that: another node may have written one since.
const OriginKey = StoreRoot + "/_origin/origin"

// readOrigin returns the value at OriginKey, "" if there is none.
func (v *Vault) readOrigin(ctx context.Context) (string, error) {
	text, err := v.Load(ctx, OriginKey)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case IsUnreadable(err):
		return "unreadable", nil
	}
	return string(text), err
}

// wasEmptied reports whether the origin that was just read shows that the storage was emptied. If there is none, it writes one. A
// failing storage may report that a value does not exist: then the nodes read everything again in vain.
func (f *Follower) wasEmptied(ctx context.Context, origin string) bool {
	back := f.origin != "" && origin != f.origin
	if origin == "" {
		if text, err := f.vault.Renew(ctx, OriginKey); err == nil {
			origin = text
		}
	}
	f.origin = origin
	return back
}
