package vault

import (
	"context"
	"errors"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
)

const (
	// readAtOnce is how many names Redis is asked for at a time: it answers no other client for some milliseconds.
	readAtOnce = 20_000

	// readTwice is how many names are read again with the next ones, because every name that is removed meanwhile moves those behind it.
	readTwice = 200
)

// A folderRead reads the names in a folder piece by piece.
type folderRead func(ctx context.Context, add func(name string) error) error

// piecesOf returns how the names in a folder are read piece by piece from caddy-storage-redis, or nil for any other storage. Its
// listing of a million names takes 170 MB, because it has every key twice. The names are in a sorted set, in the order in which they
// came; a ZSCAN would need no such order, and takes Redis three times as long.
//
// The module offers its client to others (GetClient), with a type of the Redis library. That library is not imported: every
// program with the gateway would have it, most of which use another storage. Only two methods are called, and if one of them does
// not look as expected, the names are listed.
func piecesOf(s certmagic.Storage, folder string) folderRead {
	owner, ok := s.(interface{ GetClient() any })
	settings := reflect.Indirect(reflect.ValueOf(s))
	if !ok || settings.Kind() != reflect.Struct {
		return nil
	}
	prefix := settings.FieldByName("KeyPrefix")
	client := owner.GetClient()
	if client == nil || prefix.Kind() != reflect.String {
		return nil
	}
	zrange := reflect.ValueOf(client).MethodByName("ZRange")
	if !zrange.IsValid() || !hasTypes(zrange.Type(), reflect.TypeFor[context.Context](), reflect.TypeFor[string](), reflect.TypeFor[int64](), reflect.TypeFor[int64]()) || zrange.Type().NumOut() != 1 {
		return nil
	}
	result, ok := zrange.Type().Out(0).MethodByName("Result")
	if !ok || result.Type.NumOut() != 2 || result.Type.Out(0) != reflect.TypeFor[[]string]() || result.Type.Out(1) != reflect.TypeFor[error]() {
		return nil
	}
	key := path.Join(prefix.String(), folder)
	ask := func(ctx context.Context, first, last int64) ([]string, error) {
		cmd := zrange.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(key), reflect.ValueOf(first), reflect.ValueOf(last)})
		got := cmd[0].MethodByName("Result").Call(nil)
		names, _ := reflect.TypeAssert[[]string](got[0])
		err, _ := reflect.TypeAssert[error](got[1])
		return names, err
	}
	return func(ctx context.Context, add func(name string) error) error {
		return readPieces(ctx, readAtOnce, readTwice, ask, func(name string) error { return add(strings.TrimSuffix(name, "/")) })
	}
}

var errListChanges = errors.New("names are removed faster than they can be read; try again later")

// readPieces reads a list of names with ask, which returns those from one place to another, and adds each once. A name that is there all
// the time and keeps its place among the others is not left out, although names are added and removed meanwhile: the next piece has to
// begin with one of the piece before.
func readPieces(ctx context.Context, size, twice int, ask func(ctx context.Context, first, last int64) ([]string, error), add func(name string) error) error {
	type piece struct {
		names []string
		err   error
	}
	begin := func(first int) <-chan piece {
		answer := make(chan piece, 1)
		go func() {
			names, err := ask(ctx, int64(first), int64(first+size-1))
			answer <- piece{names, err}
		}()
		return answer
	}
	var before []string
	for first, answer := 0, begin(0); ; {
		got := <-answer
		if got.err != nil {
			return got.err
		}
		known := make(map[string]bool, twice) // what this piece may have from the piece before
		if len(before) > 0 {
			at := -1
			if len(got.names) > 0 {
				at = slices.Index(before, got.names[0])
			}
			if at < 0 {
				return errListChanges
			}
			for _, name := range before[at:] {
				known[name] = true
			}
		}
		more := len(got.names) == size
		if first += size - twice; more {
			answer = begin(first) // the storage works on it meanwhile
		}
		for _, name := range got.names {
			if known[name] {
				continue
			}
			if err := add(name); err != nil {
				return err
			}
		}
		if !more || ctx.Err() != nil {
			return ctx.Err()
		}
		before = got.names
	}
}

// hasTypes reports whether a method takes arguments of these types.
func hasTypes(method reflect.Type, types ...reflect.Type) bool {
	if method.NumIn() != len(types) || method.IsVariadic() {
		return false
	}
	for i, t := range types {
		if method.In(i) != t {
			return false
		}
	}
	return true
}
