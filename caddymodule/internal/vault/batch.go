package vault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Format is the number of the format of the values that this version writes.
const Format = 1

// ErrNewer is the error for a value in a format that this version does not know.
var ErrNewer = errors.New("the value was made by a newer version of the gateway")

// A batch is the content of one key: facts that were written together. A fact may have members that this version does not know; the
// registry decides whether it can be used without them.
type batch struct {
	Format int               `json:"format"`
	Facts  []json.RawMessage `json:"facts"`
}

func encodeBatch(facts []json.RawMessage) ([]byte, error) {
	if len(facts) == 0 {
		return nil, ErrDamaged // it could not be read
	}
	return json.Marshal(batch{Format, facts})
}

// DecodeBatch returns the facts of a value.
func DecodeBatch(text []byte) ([]json.RawMessage, error) {
	var b batch
	var format struct{ Format int }
	if json.Unmarshal(text, &format) == nil && format.Format > Format {
		return nil, ErrNewer // before the facts are read, whose form may have changed
	}
	if json.Unmarshal(text, &b) != nil || b.Format != Format || len(b.Facts) == 0 { // the error could quote a secret
		return nil, ErrDamaged
	}
	for _, f := range b.Facts {
		if f = bytes.TrimSpace(f); len(f) == 0 || f[0] != '{' {
			return nil, ErrDamaged
		}
	}
	return b.Facts, nil
}

// SaveBatch writes a batch. The caller never writes other facts at the same key.
func (v *Vault) SaveBatch(ctx context.Context, key Key, facts []json.RawMessage) error {
	text, err := encodeBatch(facts)
	if err != nil {
		return err
	}
	return v.Save(ctx, key.String(), text)
}

// LoadBatch reads a batch that a listing names. A missing value may be about to be written, and is read again. If its writer still
// announces it as pending, it was never acknowledged, and LoadBatch returns nil. Otherwise it was lost, perhaps with a revocation.
func (v *Vault) LoadBatch(ctx context.Context, key Key) ([]json.RawMessage, error) {
	for try := 0; ; try++ {
		text, err := v.Load(ctx, key.String())
		switch {
		case err == nil:
			texts, err := DecodeBatch(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
			return texts, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case try < 3:
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		pending, err := v.IsPending(ctx, key)
		if err != nil || pending {
			return nil, err
		}
		names, err := v.List(ctx, path.Dir(key.String()), false)
		if err != nil || !slices.Contains(names, key.String()) {
			return nil, err // it was obsolete, and was removed meanwhile
		}
		return nil, fmt.Errorf("%s is listed, and has no value: %w", key, ErrDamaged)
	}
}

// A Key is the storage key of a batch, taken apart.
type Key struct {
	Folder string // below StoreRoot
	Writer string
	Number uint64 // of the batch among those of this writer in this folder; later ones have larger numbers
}

// factsFolder is the part of a storage key between the folder and the name of a batch.
const factsFolder = "facts"

func (k Key) String() string {
	return path.Join(StoreRoot, k.Folder, factsFolder, k.Writer+"-"+strconv.FormatUint(k.Number, 10))
}

// Compare orders the keys of batches by folder, writer and number.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Folder, other.Folder), cmp.Compare(k.Writer, other.Writer), cmp.Compare(k.Number, other.Number))
}

// ParseKey takes a storage key apart. It returns false for keys that are not batches, such as the temporary files that a file
// system leaves when a process dies.
func ParseKey(key string) (Key, bool) {
	folder, found := strings.CutPrefix(key, StoreRoot+"/")
	if !found {
		return Key{}, false
	}
	folder, name := path.Split(folder)
	folder, found = strings.CutSuffix(folder, "/"+factsFolder+"/")
	writer, number, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	k := Key{folder, writer, n}
	if !found || err != nil || n == 0 || !isWriterID(writer) || k.String() != key {
		return Key{}, false
	}
	return k, true
}

// writerIDSize is the length of the ID of a writer.
const writerIDSize = 16

// isWriterID reports whether name can be the ID of a writer: letters and digits of base32, with at least one letter. The names of
// a file system's temporary files are digits only.
func isWriterID(name string) bool {
	letters := 0
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z':
			letters++
		case c < '2' || c > '7':
			return false
		}
	}
	return letters > 0 && len(name) >= 8 && len(name) <= 26
}
