package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A place is the storage on which a command works without a running gateway. A command that runs as another user than the gateway
// finds another folder by default, and the gateway cannot read the files that it writes.
type place struct {
	folder string // of a file system; "" for another storage
	name   string
}

// placeOf returns the place of a storage.
func placeOf(s certmagic.Storage, config []byte) place {
	if files, ok := s.(*certmagic.FileStorage); ok {
		folder := files.Path
		if absolute, err := filepath.Abs(folder); err == nil {
			folder = absolute
		}
		return place{folder: folder, name: folder}
	}
	var parsed struct {
		Storage struct {
			Module string `json:"module"`
		} `json:"storage"`
	}
	_ = json.Unmarshal(config, &parsed) // Caddy has loaded the same text without an error
	return place{name: parsed.Storage.Module + ", as the configuration names it"}
}

// say prints where the command works, which an operator should check first if something seems to be missing.
func (p place) say(w io.Writer) { printable.Printf(w, "storage: %s\n", p.name) }

// root returns the folder of the store.
func (p place) root() string { return filepath.Join(p.folder, vault.StoreRoot) }

// check returns an error if there is no store in the place.
func (p place) check(v *vault.Vault) error {
	if p.folder == "" {
		keys, err := v.List(context.Background(), vault.StoreRoot, false)
		if err == nil && len(keys) == 0 {
			return fmt.Errorf("there is no store in the storage %s: no gateway has used it yet; check the configuration, or begin a store there with --new-store", p.name)
		}
		return err
	}
	switch _, err := os.Stat(p.root()); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no store in %s: no gateway has used this folder; run the command as the user of the gateway, whose folder may be another one, "+
			"or name the folder with the global option storage; to begin a store there, add --new-store", p.folder)
	case err != nil:
		return fmt.Errorf("the store cannot be read; run the command as the user of the gateway: %w", err)
	}
	return nil
}

// checkOwner returns an error if another user owns the folder, because that user could not read the files that this command writes.
// Changing the owner of each file afterwards would be too late: a gateway that reads a file before that answers 503.
func (p place) checkOwner() error {
	if p.folder == "" {
		return nil
	}
	for _, folder := range []string{p.root(), p.folder} {
		info, err := os.Stat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if name, other := otherOwner(info); other {
			return fmt.Errorf("%s belongs to %s, who could not read what this command writes; run it as that user: sudo -u %s caddy messenger …", folder, name, name)
		}
		return nil
	}
	return nil
}
