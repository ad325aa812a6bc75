package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Names are added and removed while they are read. Each that is there all the time is read, and none twice.
func TestPiecesContainAllPermanentNames(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		const size, twice = 20, 6
		var list, added []string
		for i := range r.IntN(200) {
			list = append(list, fmt.Sprint("name ", i))
		}
		lasting := slices.Clone(list)
		ask := func(_ context.Context, first, last int64) ([]string, error) {
			piece := slices.Clone(list[min(int(first), len(list)):min(int(last)+1, len(list))])
			for range r.IntN(twice) { // until the next piece
				if at := r.IntN(len(list) + 1); r.IntN(2) == 0 || at == len(list) {
					list = append(list, fmt.Sprint("new ", r.Uint64()))
				} else {
					lasting = slices.DeleteFunc(lasting, func(name string) bool { return name == list[at] })
					list = slices.Delete(list, at, at+1)
				}
			}
			return piece, nil
		}
		err := readPieces(t.Context(), size, twice, ask, func(name string) error { added = append(added, name); return nil })
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, name := range lasting {
			if !slices.Contains(added, name) {
				t.Fatalf("seed %d: %q is missing", seed, name)
			}
		}
		if slices.Sort(added); len(slices.Compact(slices.Clone(added))) != len(added) {
			t.Fatalf("seed %d: a name was added twice", seed)
		}
	}
}

// Where so much is removed that a name could be left out, reading fails.
func TestGapBetweenPiecesIsAnError(t *testing.T) {
	for _, left := range []int{0, 5, 40} {
		list := make([]string, 60)
		for i := range list {
			list[i] = fmt.Sprint(i)
		}
		ask := func(_ context.Context, first, last int64) ([]string, error) {
			piece := slices.Clone(list[min(int(first), len(list)):min(int(last)+1, len(list))])
			list = list[len(list)-min(left, len(list)):]
			return piece, nil
		}
		if err := readPieces(t.Context(), 20, 5, ask, func(string) error { return nil }); !errors.Is(err, errListChanges) {
			t.Errorf("%d names are left: %v", left, err)
		}
	}
}
