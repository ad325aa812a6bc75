package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"slices"
)

// Changes say what happened last.
type Changes struct {
	Epoch   string   `json:"epoch"`             // another one if the list was lost and began anew
	Number  uint64   `json:"number"`            // of the last change
	Names   []string `json:"names"`             // of the last changes, oldest first
	Pending []string `json:"pending,omitempty"` // of changes that may have been made or not
}

// Write stores a value, or deletes it if it is nil, between two notes in the list of changes.
func (v *Vault) Write(ctx context.Context, name, key string, next any) error {
	list, err := v.loadChanges(ctx)
	if err != nil {
		return err
	}
	// Whoever holds the lock knows that no other change is under way: what is pending is over, one way or the other.
	for _, other := range list.Pending {
		list.note(other)
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
	list.note(name)
	list.Pending = nil
	return v.Save(ctx, ChangesKey, list)
}

func (c *Changes) note(name string) {
	c.Number++
	c.Names = append(c.Names, name)
	if over := len(c.Names) - MaxChanges; over > 0 {
		c.Names = slices.Delete(c.Names, 0, over)
	}
}

// loadChanges returns the list, or a new one where it is missing or damaged: it is no source of trust, and the new epoch
// makes all nodes read again what they hold.
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
		return nil, false // it was set back, and went on another way
	}
	return append(slices.Clone(c.Names[uint64(len(c.Names))-missed:]), c.Pending...), true
}
