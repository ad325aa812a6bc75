package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/certmagic"
)

// namesAtOnce is how many names of a folder are read at a time.
const namesAtOnce = 4096

// EachName calls add for each name, in any order, until add returns an error.
type EachName func(add func(name string) error) error

// Names reads the names in the root of the store, and returns what collect makes of them. On a file system it reads the folder itself,
// without looking at what it has in it, and from Redis it reads the names piece by piece; the listing of other storages gives all keys at
// once. After an error collect may still run: it must change nothing but what it returns. A panic of collect is one of the caller, as
// with Each.
func Names[T any](ctx context.Context, v *Vault, collect func(each EachName) (T, error)) (T, error) {
	collected, err := callWithin(ctx, v, namesTimeout, func(ctx context.Context, s certmagic.Storage) (collected T, err error) {
		inStorage := false
		defer func() {
			if p := recover(); p != nil && inStorage {
				panic(p) // callWithin makes an error of it
			} else if p != nil {
				err = panickedError(fmt.Sprintf("%v\n%s", p, debug.Stack()))
			}
		}()
		collected, err = collect(func(add func(name string) error) error {
			inStorage = true
			err := readNames(ctx, s, func(name string) error {
				inStorage = false
				err := add(name)
				inStorage = true
				return err
			})
			inStorage = false
			return err
		})
		if err == nil {
			err = ctx.Err()
		}
		return collected, err
	})
	if panicked, ok := errors.AsType[panickedError](err); ok {
		panic(string(panicked))
	}
	if err != nil {
		v.failed(ctx)
		var none T
		return none, fmt.Errorf("listing %s: %w", StoreRoot, err)
	}
	return collected, nil
}

// A panickedError carries a panic of what is made of the names to the goroutine of the caller.
type panickedError string

func (e panickedError) Error() string { return string(e) }

// readNames calls add for each name in the root of the store.
func readNames(ctx context.Context, s certmagic.Storage, add func(name string) error) error {
	if files, ok := s.(*certmagic.FileStorage); ok {
		return eachFile(ctx, files, add)
	}
	if read := piecesOf(s, StoreRoot); read != nil {
		return read(ctx, add)
	}
	return eachKey(ctx, s, add)
}

func eachKey(ctx context.Context, s certmagic.Storage, add func(name string) error) error {
	keys, err := list(ctx, s, StoreRoot, false)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := add(strings.TrimPrefix(key, StoreRoot+"/")); err != nil {
			return err
		}
	}
	return nil
}

func eachFile(ctx context.Context, s *certmagic.FileStorage, add func(name string) error) error {
	folder, err := os.Open(s.Filename(StoreRoot))
	if errors.Is(err, os.ErrNotExist) {
		_, err = list(ctx, s, StoreRoot, false) // which tells a share that is not mounted from an empty store
		return err
	}
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	for ctx.Err() == nil {
		names, err := folder.Readdirnames(namesAtOnce)
		for _, name := range names {
			if err := add(name); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	return ctx.Err()
}

// KeepListed makes sure that a folder which has anything is in the listing of the folder above it. caddy-storage-redis (1.8.1)
// takes a folder out of that listing after its last value was deleted, in several steps; a value that is written in between is
// there, and no listing leads to it. A new value in the folder makes the module list it again.
//
// It is called after the deletion: later writes restore the listing themselves.
func (v *Vault) KeepListed(ctx context.Context, folder string) error {
	s, err := v.storage()
	if err != nil {
		return err
	}
	if _, files := s.(*certmagic.FileStorage); files {
		return nil
	}
	keys, err := v.List(ctx, folder, false)
	if err != nil || len(keys) == 0 {
		return err
	}
	key := path.Join(folder, listedName)
	if err := v.Save(ctx, key, []byte(`{}`)); err != nil {
		return err
	}
	return v.Delete(ctx, key)
}

// listedName is the name of the value of KeepListed. Nothing else reads it.
const listedName = "_listed"

// IsListed reports whether a key is that of a value of KeepListed. One is left if the process ends before it is removed; the next call
// for its folder removes it.
func IsListed(key string) bool { return path.Base(key) == listedName }
