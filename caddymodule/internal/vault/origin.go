package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
)

// originKey has a random value that the first node writes. If it is gone, or another, the storage was emptied. The bell alone does
// not tell: it may have been rung again since.
const originKey = StoreRoot + "/_origin/origin"

// readOrigin returns the value at originKey, "" if there is none.
func (v *Vault) readOrigin(ctx context.Context) (string, error) {
	text, err := v.Load(ctx, originKey)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case IsUnreadable(err):
		return "unreadable", nil
	}
	return string(text), err
}

// wentBack reports whether the origin that was just read says that the storage was emptied. Where there is none, it writes one.
// A storage that fails may say that a value does not exist: then the nodes read everything again for nothing.
func (f *Follower) wentBack(ctx context.Context, origin string) bool {
	back := f.origin != "" && origin != f.origin
	if origin == "" {
		if text := `"` + rand.Text() + `"`; f.vault.Save(ctx, originKey, []byte(text)) == nil {
			origin = text
		}
	}
	f.origin = origin
	return back
}
