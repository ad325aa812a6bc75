package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
)

// Tidy removes the lists of writers that have been silent for long.
func (f *Follower) Tidy(ctx context.Context) error {
	keys, err := f.vault.writers(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if writer := path.Base(key); writer != f.own && f.unreadable.isSilent(writer) {
			if err := f.vault.Delete(ctx, key); err != nil { // each of its changes has made this node read everything again
				return err
			}
			continue
		}
		text, err := f.vault.Load(ctx, key)
		list := new(changeList)
		if err != nil || json.Unmarshal(text, list) != nil || list.Format != Format || path.Base(key) == f.own || Now().Sub(list.At) < maxSilent {
			continue
		}
		for _, e := range list.Changes {
			if e.Pending {
				// The writer died while it wrote this batch. A listing may name it without a value: deleting it corrects the listing. An
				// existing value is complete, and stays.
				batch := Key{e.Folder, path.Base(key), e.Last}.String()
				if _, err := f.vault.Load(ctx, batch); errors.Is(err, fs.ErrNotExist) {
					err = f.vault.Delete(ctx, batch)
					if err != nil {
						return err
					}
				}
			}
		}
		if err := f.vault.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// IsPending reports whether the writer of a batch, which a listing names and the storage does not have, was about to write it:
// then it was never acknowledged.
func (v *Vault) IsPending(ctx context.Context, key Key) (bool, error) {
	text, err := v.Load(ctx, path.Join(writersFolder, key.Writer))
	if errors.Is(err, fs.ErrNotExist) || IsUnreadable(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var list changeList
	if json.Unmarshal(text, &list) != nil {
		return false, nil
	}
	for _, e := range list.Changes {
		if e.Folder == key.Folder {
			return e.Pending && e.Last == key.Number, nil
		}
	}
	return false, nil
}
