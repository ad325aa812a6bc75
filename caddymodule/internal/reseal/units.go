package reseal

import (
	"context"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/nameindex"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// units are the units of a run in their order: first the values outside messengers, and then the messengers by name. The first step also
// looks at foreign values. A messenger that is created meanwhile is sealed with the first key anyway.
type units struct {
	special []string
	names   nameindex.Index
	after   string
}

// maxForeign is how many foreign values in the root of the store are named.
const maxForeign = 20

// isSingle reports whether a unit is one value, and not a folder.
func isSingle(unit string) bool { return strings.HasPrefix(unit, keysets.OldFolder+"/") }

// units returns the units after one of them, or all of them for "".
func (r *run) units(ctx context.Context, after string) (*units, error) {
	u := &units{after: after}
	var err error
	if u.names, err = r.store.NamesNow(ctx, u.after == ""); err != nil {
		return nil, err
	}
	if isName(u.after) {
		return u, nil
	}
	for _, folder := range []string{keysets.Folder, keysets.OldFolder, ""} {
		below, err := r.others(ctx, folder)
		if err != nil {
			return nil, err
		}
		u.special = append(u.special, below...)
	}
	slices.Sort(u.special)
	return u, nil
}

func isName(unit string) bool { return config.CheckName(unit) == nil }

// others returns the units in a folder below the root of the store that are not messengers.
func (r *run) others(ctx context.Context, folder string) (found []string, err error) {
	if folder != "" {
		keys, err := r.store.List(ctx, path.Join(vault.StoreRoot, folder), false)
		for _, key := range keys {
			found = append(found, path.Join(folder, path.Base(key)))
		}
		return found, err
	}
	return vault.Names(ctx, r.store.Vault, func(each vault.EachName) (found []string, err error) {
		foreign := 0
		err = each(func(name string) error {
			switch {
			case isName(name), name == keysets.Folder, name == keysets.OldFolder, name == vault.TicketsFolder: // markers have no content, and are removed within hours
			case name != "" && name[0] == '_':
				found = append(found, name)
			case foreign < maxForeign:
				foreign++
				found = append(found, name)
			}
			return nil
		})
		return found, err
	})
}

// count returns how many units there are.
func (u *units) count() int { return len(u.special) + u.names.Count }

// done returns how many of them are before the position.
func (u *units) done() int {
	if isName(u.after) {
		return u.names.Before(u.after)
	}
	done, _ := slices.BinarySearch(u.special, u.after)
	return done
}

// chunks returns the units after the position, some at a time.
func (u *units) chunks() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		var chunk []string
		for unit := range u.left() {
			if chunk = append(chunk, unit); len(chunk) < together {
				continue
			}
			if !yield(chunk) {
				return
			}
			chunk = nil
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

func (u *units) left() iter.Seq[string] {
	return func(yield func(string) bool) {
		after := ""
		if isName(u.after) {
			after = u.after
		}
		for _, unit := range u.special {
			if unit > u.after && !yield(unit) {
				return
			}
		}
		for name := range u.names.Matching(after, "") {
			if !yield(name) {
				return
			}
		}
	}
}

// spread returns about a thousand of the messengers, from all over the store.
func (u *units) spread() iter.Seq[[]string] {
	var some []string
	i, each := 0, max(1, u.names.Count/1024)
	for name := range u.names.Matching("", "") {
		if i++; i%each == 0 {
			some = append(some, name)
		}
	}
	return slices.Chunk(some, together)
}
