package reseal

import (
	"context"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// units are what a run goes through, in this order: what belongs to no messenger, and then the messengers by their names.
type units struct {
	special []string
	names   []string
	left    []string // after the position
}

// isSingle reports whether a unit is one value, and not a folder.
func isSingle(unit string) bool {
	folder, _, below := strings.Cut(unit, "/")
	return below && folder == registry.OldKeySetFolder || !below && config.CheckName(unit) != nil && unit[0] != '_'
}

// units returns the units after that of the options.
func (r *run) units(ctx context.Context) (*units, error) {
	u := new(units)
	keys, err := r.store.List(ctx, vault.StoreRoot, false)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		name := path.Base(key)
		switch {
		case config.CheckName(name) == nil:
			u.names = append(u.names, name)
		case name == registry.KeySetFolder, name == registry.OldKeySetFolder:
			sets, err := r.store.List(ctx, key, false)
			if err != nil {
				return nil, err
			}
			for _, set := range sets {
				u.special = append(u.special, path.Join(name, path.Base(set)))
			}
		default:
			u.special = append(u.special, name)
		}
	}
	slices.Sort(u.special)
	u.left = append(slices.Clone(u.special), u.names...)
	for len(u.left) > 0 && !follows(u.left[0], r.options.After) {
		u.left = u.left[1:]
	}
	return u, nil
}

// count returns how many there are, and done how many of them are before the position.
func (u *units) count() int { return len(u.special) + len(u.names) }

func (u *units) done() int { return u.count() - len(u.left) }

// follows reports whether unit comes after the position.
func follows(unit, position string) bool {
	isName, wasName := config.CheckName(unit) == nil, position != "" && config.CheckName(position) == nil
	if isName != wasName && position != "" {
		return isName
	}
	return unit > position
}

// chunks returns the units after the position, some at a time.
func (u *units) chunks() iter.Seq[[]string] { return slices.Chunk(u.left, together) }

// spread returns at most 1024 of the messengers, from all over the store, and what has facts besides.
func (u *units) spread() iter.Seq[[]string] {
	const most = 1024
	var some []string
	for i := 0; i < len(u.names); i += max(1, len(u.names)/most) {
		some = append(some, u.names[i])
	}
	return slices.Chunk(some, together)
}
