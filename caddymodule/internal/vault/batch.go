package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path"
	"strconv"
	"strings"
)

// Format is the number of the format of the values that this version writes.
const Format = 1

// ErrNewer is the error for a value in a format that this version does not know.
var ErrNewer = errors.New("the value was made by a newer version of the gateway")

// A batch is the content of one key: facts that were written together. Members that this version does not know are allowed in
// a fact; whether it can do without them is for the registry to decide.
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
