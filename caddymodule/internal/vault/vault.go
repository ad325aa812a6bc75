// Package vault stores facts in Caddy's storage, so that no acknowledged fact is lost. It seals every value, and announces changes to
// other nodes.
//
// The storages of Caddy have no compare-and-set, and their locks can fail. Therefore a fact is written to a key of its own,
// once and never again with other content; no fact is ever read, changed and written back. The package does not
// know messengers, settings or tokens: to it, a fact is a JSON object in a folder. Facts are interpreted by ledger, and applied on a
// node by registry.
//
// Begin reading with [Writer.Append] and [Follower.Poll].
package vault

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// StoreRoot is the folder of all values in Caddy's storage.
const StoreRoot = "messenger"

// Now is the clock of this node. Tests replace it.
var Now = time.Now

// A Vault is Caddy's storage as the gateway uses it.
type Vault struct {
	Seal   *sealer
	Failed func() // called for every call of Load or List that fails while its caller waits

	calls chan struct{} // storage calls in progress; see call

	mu       sync.Mutex
	backends []certmagic.Storage // those of the loaded configurations; the last one is used
	durable  map[string]bool     // folders of a file system whose own entries have reached the disk
}

// New makes a vault without a storage. failed is called for every call of Load or List that fails while its caller waits.
func New(seal *sealer, failed func()) *Vault {
	return &Vault{Seal: seal, Failed: failed, calls: make(chan struct{}, maxCalls), durable: make(map[string]bool)}
}

// Use adds the storage of a configuration. It is used until Drop is called or another one is added.
func (v *Vault) Use(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.backends = append(v.backends, s)
}

// Drop removes a storage that Use has added.
func (v *Vault) Drop(s certmagic.Storage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if i := slices.Index(v.backends, s); i >= 0 {
		v.backends = slices.Delete(v.backends, i, i+1)
	}
}

// ErrNoStorage is the error if no configuration is loaded.
var ErrNoStorage = errors.New("no configuration with a storage is loaded")

func (v *Vault) storage() (certmagic.Storage, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.backends) == 0 {
		return nil, ErrNoStorage
	}
	return v.backends[len(v.backends)-1], nil
}

// ErrNotSealed is the error for writing to a shared storage without a seal key.
var ErrNotSealed = errors.New("this storage is not the local file system, and what is written there must be sealed: " +
	"add store { key {file.…} } with a key of 32 bytes in base64 to the global option messenger { … }")

// CheckWritable returns an error if secrets would be written unencrypted to a storage that others may read. Caddy's file system
// is exempt: it contains Caddy's own private keys with the same permissions.
func (v *Vault) CheckWritable() error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	if _, local := s.(*certmagic.FileStorage); !local && !v.Seal.Enabled() {
		return ErrNotSealed
	}
	return nil
}
