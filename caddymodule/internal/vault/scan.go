package vault

import (
	"context"
	"path"
	"reflect"
	"strings"

	"github.com/caddyserver/certmagic"
)

// scanAtOnce is how many names Redis is asked for at a time: it answers no other client for about 10 ms.
const scanAtOnce = 20_000

// A folderScan reads the names in a folder piece by piece.
type folderScan func(ctx context.Context, add func(name string) error) error

// scanOf returns how the names in a folder are read piece by piece from caddy-storage-redis, or nil for any other storage. Its
// listing of a million names takes 170 MB, because it has every key twice.
//
// The module offers its client to others (GetClient), with a type of the Redis library. That library is not imported: every
// program with the gateway would have it, most of which use another storage. Only two methods are called, and if one of them does
// not look as expected, the names are listed.
func scanOf(s certmagic.Storage, folder string) folderScan {
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
	zscan := reflect.ValueOf(client).MethodByName("ZScan")
	if !zscan.IsValid() || !hasTypes(zscan.Type(), reflect.TypeFor[context.Context](), reflect.TypeFor[string](), reflect.TypeFor[uint64](), reflect.TypeFor[string](), reflect.TypeFor[int64]()) || zscan.Type().NumOut() != 1 {
		return nil
	}
	result, ok := zscan.Type().Out(0).MethodByName("Result")
	if !ok || result.Type.NumOut() != 3 || result.Type.Out(0) != reflect.TypeFor[[]string]() || result.Type.Out(1) != reflect.TypeFor[uint64]() || result.Type.Out(2) != reflect.TypeFor[error]() {
		return nil
	}
	key := path.Join(prefix.String(), folder)
	ask := func(ctx context.Context, cursor uint64) <-chan scanned {
		answer := make(chan scanned, 1)
		go func() {
			cmd := zscan.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(key), reflect.ValueOf(cursor), reflect.ValueOf(""), reflect.ValueOf(int64(scanAtOnce))})
			got := cmd[0].MethodByName("Result").Call(nil)
			found, _ := reflect.TypeAssert[[]string](got[0])
			err, _ := reflect.TypeAssert[error](got[2])
			answer <- scanned{found, got[1].Uint(), err}
		}()
		return answer
	}
	return func(ctx context.Context, add func(name string) error) error {
		for answer := ask(ctx, 0); ; {
			got := <-answer
			if got.err != nil {
				return got.err
			}
			if got.cursor != 0 {
				answer = ask(ctx, got.cursor) // Redis works on it meanwhile
			}
			for i := 0; i < len(got.names); i += 2 { // each name is followed by its score, and may come twice
				if err := add(strings.TrimSuffix(got.names[i], "/")); err != nil {
					return err
				}
			}
			if got.cursor == 0 {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
}

// A scanned piece is what Redis answers to one question.
type scanned struct {
	names  []string
	cursor uint64 // where the next piece begins, or 0 after the last one
	err    error
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
