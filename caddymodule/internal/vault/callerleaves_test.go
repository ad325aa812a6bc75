package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A caller that goes away says nothing about the storage, whether the storage notices that or not: it is not counted as a failure of the
// storage, and not reported as one.
func TestDisconnectedCallerIsNotAStorageFailure(t *testing.T) {
	for _, notices := range []bool{true, false} {
		for name, ask := range map[string]func(ctx context.Context, v *Vault) error{
			"Names": func(ctx context.Context, v *Vault) error {
				_, err := Names(ctx, v, func(each EachName) (int, error) { return 0, each(func(string) error { return nil }) })
				return err
			},
			"List": func(ctx context.Context, v *Vault) error { _, err := v.List(ctx, StoreRoot, true); return err },
			"Load": func(ctx context.Context, v *Vault) error { _, err := v.Load(ctx, "messenger/acme/x"); return err },
		} {
			t.Run(fmt.Sprint(name, ", the storage notices: ", notices), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemory()
					v, _ := newNode(t, m)
					var failed atomic.Int32
					v.Failed = func() { failed.Add(1) }
					hold := make(chan struct{})
					m.fail(func(ctx context.Context, _, _ string, _ []byte) (bool, error) {
						if notices {
							<-ctx.Done()
							return true, ctx.Err()
						}
						<-hold
						return true, nil
					})
					ctx, cancel := context.WithCancel(t.Context())
					told := make(chan error, 1)
					go func() { told <- ask(ctx, v) }()
					synctest.Wait()
					cancel()
					if err := <-told; !errors.Is(err, context.Canceled) || errors.Is(err, errTimeout) || failed.Load() != 0 {
						t.Errorf("got %v, and %d failures", err, failed.Load())
					}
					if err := ask(ctx, v); !errors.Is(err, context.Canceled) || failed.Load() != 0 {
						t.Errorf("after it: got %v, and %d failures", err, failed.Load())
					}
					// A caller that waits to the end gets the error of the storage, and that counts.
					if err := ask(t.Context(), v); err == nil || errors.Is(err, context.Canceled) || failed.Load() != 1 {
						t.Errorf("a caller that waits: got %v, and %d failures", err, failed.Load())
					}
					close(hold)
				})
			})
		}
	}
}

// What is made of the names is ours: a panic there is one of the caller, and says nothing about the storage module. One of the module
// is an error, also while names are read.
func TestPanicInACallbackIsNotAStorageError(t *testing.T) {
	for name, tt := range map[string]struct {
		collect func(each EachName) (int, error)
		boom    bool // in the storage
	}{
		"before the names": {func(EachName) (int, error) { panic("a mistake") }, false},
		"with a name":      {func(each EachName) (int, error) { return 0, each(func(string) error { panic("a mistake") }) }, false},
		"after the names": {func(each EachName) (int, error) {
			_ = each(func(string) error { return nil })
			panic("a mistake")
		}, false},
		"of the storage": {func(each EachName) (int, error) { return 0, each(func(string) error { return nil }) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			v, _ := newNode(t, m)
			m.set("messenger/acme/x", []byte("{}"))
			failed := 0
			v.Failed = func() { failed++ }
			if tt.boom {
				m.fail(func(context.Context, string, string, []byte) (bool, error) { panic("boom") })
			}
			defer func() {
				p := recover()
				if tt.boom != (p == nil) || !tt.boom && (!strings.HasPrefix(fmt.Sprint(p), "a mistake\n") || failed > 0) {
					t.Errorf("recovered %v; %d failures", p, failed)
				}
			}()
			_, err := Names(t.Context(), v, tt.collect)
			if !tt.boom || err == nil || !strings.Contains(err.Error(), "the storage module panicked: boom") || failed != 1 {
				t.Errorf("got %v, and %d failures", err, failed)
			}
		})
	}
}
