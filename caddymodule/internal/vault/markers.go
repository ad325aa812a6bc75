package vault

import (
	"context"
	"path"

	"github.com/caddyserver/certmagic"
)

// TicketsFolder has the markers of used tickets, below the folder of the store: a folder for each minute, in it one for each ticket, and
// in that a marker of each node that has tried to use it. It is not the name of a messenger.
const TicketsFolder = "_tickets"

// Markers are those of one node, which has a name that no other has.
type Markers struct {
	Vault *Vault
	Node  string
}

// Mark writes this node's marker, and lists the markers of the ticket afterwards: the order ensures that of two nodes at least one
// sees the other's.
func (m Markers) Mark(ctx context.Context, minute, id string) (alone bool, err error) {
	folder := path.Join(StoreRoot, TicketsFolder, minute, id)
	own := path.Join(folder, m.Node)
	if err := m.Vault.Save(ctx, own, []byte("{}")); err != nil {
		return false, err
	}
	keys, err := m.Vault.List(ctx, folder, false)
	if err != nil {
		return false, err
	}
	// A listing without the own marker is of a storage that shows writes late: what else it does not show is unknown.
	return len(keys) == 1 && path.Base(keys[0]) == m.Node, nil
}

// removeEmpty removes folders of a file system that are empty. Other storages have no empty folders.
func (m Markers) removeEmpty(ctx context.Context, folders ...string) error {
	s, err := m.Vault.storage()
	if _, files := s.(*certmagic.FileStorage); err != nil || !files {
		return err
	}
	for _, folder := range folders {
		if m.Vault.Delete(ctx, folder) != nil {
			return nil // another node's marker is in it
		}
	}
	return nil
}

// Minutes returns the minutes that have markers of any node.
func (m Markers) Minutes(ctx context.Context) ([]string, error) {
	keys, err := m.Vault.List(ctx, path.Join(StoreRoot, TicketsFolder), false)
	for i, key := range keys {
		keys[i] = path.Base(key)
	}
	return keys, err
}

// RemoveOwn removes this node's markers of a minute.
func (m Markers) RemoveOwn(ctx context.Context, minute string) error {
	return m.remove(ctx, minute, func(node string) bool { return node == m.Node })
}

// RemoveAll removes the markers of a minute.
func (m Markers) RemoveAll(ctx context.Context, minute string) error {
	return m.remove(ctx, minute, func(string) bool { return true })
}

// remove removes markers of a minute by the name of their node, key by key: see Delete.
func (m Markers) remove(ctx context.Context, minute string, of func(node string) bool) error {
	folder := path.Join(StoreRoot, TicketsFolder, minute)
	keys, err := m.Vault.List(ctx, folder, true)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !of(path.Base(key)) {
			continue
		}
		if err := m.Vault.Delete(ctx, key); err != nil {
			return err
		}
		if err := m.removeEmpty(ctx, path.Dir(key)); err != nil {
			return err
		}
	}
	return m.removeEmpty(ctx, folder)
}
