package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"slices"
)

// Changes is the list of the last changes. Nodes poll it to find out which values they have to read again.
type Changes struct {
	Epoch   string   `json:"epoch"`             // a new one whenever the list had to be created again
	Number  uint64   `json:"number"`            // of the last change
	Names   []string `json:"names"`             // the changed messengers, oldest change first
	Pending []string `json:"pending,omitempty"` // the messengers of changes that may or may not have been made
}

// Write stores next at key, or deletes key if next is nil. The caller holds the lock for changes. The list of changes is
// written before and after it, so that nodes also read the value again if this process dies between the steps.
func (v *Vault) Write(ctx context.Context, name, key string, next any) error {
	list, err := v.loadChanges(ctx)
	if err != nil {
		return err
	}
	// Under the lock there is no other change in progress: pending changes have been made, or never will be.
	for _, other := range list.Pending {
		list.record(other)
	}
	list.Pending = []string{name}
	if err := v.Save(ctx, ChangesKey, list); err != nil {
		return err
	}
	if next == nil {
		err = v.Delete(ctx, key)
	} else {
		err = v.Save(ctx, key, next)
	}
	if err != nil {
		return err // the name stays pending
	}
	list.record(name)
	list.Pending = nil
	return v.Save(ctx, ChangesKey, list)
}

// record appends a change, and removes the oldest if there are too many.
func (c *Changes) record(name string) {
	c.Number++
	c.Names = append(c.Names, name)
	if over := len(c.Names) - MaxChanges; over > 0 {
		c.Names = slices.Delete(c.Names, 0, over)
	}
}

// loadChanges returns the list, or a new one if it is missing or damaged. That is safe, because nothing is trusted on account
// of the list, and the new epoch makes all nodes read everything again.
func (v *Vault) loadChanges(ctx context.Context) (*Changes, error) {
	list := new(Changes)
	err := v.Load(ctx, ChangesKey, list)
	switch {
	case err == nil:
		return list, nil
	case errors.Is(err, fs.ErrNotExist), IsUnreadable(err):
		return &Changes{Epoch: rand.Text()}, nil
	}
	return nil, err
}

// Since returns the names that changed after the list was at before, and false if the list does not reach back so far.
func (c *Changes) Since(before *Changes) ([]string, bool) {
	if before.Epoch != c.Epoch || c.Number < before.Number {
		return nil, false
	}
	missed := c.Number - before.Number
	if missed > uint64(len(c.Names)) {
		return nil, false
	}
	known := c.Names[:uint64(len(c.Names))-missed]
	if over := len(before.Names) - len(known); over < 0 || !slices.Equal(before.Names[over:], known) {
		return nil, false // the list was restored from a backup, and other changes followed
	}
	return append(slices.Clone(c.Names[uint64(len(c.Names))-missed:]), c.Pending...), true
}
