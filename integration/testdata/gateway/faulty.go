package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

func init() {
	caddy.RegisterModule(new(faultyStorage))
}

// faultyStorage is Caddy's folder on a disk or a network that fails when a test wants it. Before each call under messenger/
// it asks the wire of its test. In a Caddyfile: storage faulty <folder> <socket of the wire>.
type faultyStorage struct {
	Root string `json:"root"`
	Wire string `json:"wire"`

	folder certmagic.FileStorage
}

func (*faultyStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.faulty", New: func() caddy.Module { return new(faultyStorage) }}
}

func (s *faultyStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&s.Root, &s.Wire) {
		return d.ArgErr()
	}
	return nil
}

func (s *faultyStorage) CertMagicStorage() (certmagic.Storage, error) {
	s.folder.Path = s.Root
	return s, nil
}

var errFaulty = errors.New("input/output error, as the test wants it")

// through asks the wire, and does what it says. The bytes of a value go along, so that the test can repeat a write.
func (s *faultyStorage) through(op, key string, value []byte, do func() error) error {
	if !strings.Contains(key, "messenger") {
		return do() // Caddy has keys of its own
	}
	conn, err := net.Dial("unix", s.Wire)
	if err != nil {
		return do() // the test is over
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s %s %d\n%s", op, key, len(value), value); err != nil {
		return do()
	}
	decision, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return do()
	}
	switch decision {
	case "refuse\n":
		return errFaulty
	case "lose\n":
		_ = do()
		return errFaulty
	}
	return do()
}

func (s *faultyStorage) Store(ctx context.Context, key string, value []byte) error {
	return s.through("Store", key, value, func() error { return s.folder.Store(ctx, key, value) })
}

func (s *faultyStorage) Load(ctx context.Context, key string) (value []byte, err error) {
	err = s.through("Load", key, nil, func() (err error) {
		value, err = s.folder.Load(ctx, key)
		return err
	})
	return value, err
}

func (s *faultyStorage) Delete(ctx context.Context, key string) error {
	return s.through("Delete", key, nil, func() error { return s.folder.Delete(ctx, key) })
}

func (s *faultyStorage) Exists(ctx context.Context, key string) (exists bool) {
	_ = s.through("Exists", key, nil, func() error {
		exists = s.folder.Exists(ctx, key)
		return nil
	})
	return exists
}

func (s *faultyStorage) List(ctx context.Context, prefix string, recursive bool) (keys []string, err error) {
	err = s.through("List", prefix, nil, func() (err error) {
		keys, err = s.folder.List(ctx, prefix, recursive)
		return err
	})
	return keys, err
}

func (s *faultyStorage) Stat(ctx context.Context, key string) (info certmagic.KeyInfo, err error) {
	err = s.through("Stat", key, nil, func() (err error) {
		info, err = s.folder.Stat(ctx, key)
		return err
	})
	return info, err
}

func (s *faultyStorage) Lock(ctx context.Context, name string) error {
	return s.through("Lock", name, nil, func() error { return s.folder.Lock(ctx, name) })
}

func (s *faultyStorage) Unlock(ctx context.Context, name string) error {
	return s.through("Unlock", name, nil, func() error { return s.folder.Unlock(ctx, name) })
}

// Interface guards
var (
	_ caddy.StorageConverter = (*faultyStorage)(nil)
	_ caddyfile.Unmarshaler  = (*faultyStorage)(nil)
	_ certmagic.Storage      = (*faultyStorage)(nil)
)
