package auth

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

func failuresFor(t *testing.T, attempts int, address string) failures {
	t.Helper()
	failing().InvalidateAll()
	return failures{t.Name(), config.FailLimit{Attempts: attempts, Window: caddy.Duration(time.Hour)}, netip.MustParseAddr(address)}
}

// checkNoReservations fails if a token that was decided still takes memory.
func checkNoReservations(t *testing.T) {
	t.Helper()
	reservations.Lock()
	defer reservations.Unlock()
	if n := len(reservations.of); n != 0 {
		t.Errorf("%d addresses still have reservations", n)
	}
}

// A crowd of tokens comes at once from one address, and each takes 0.9 s to read. What gets read, and what is refused
// unread, depends on what they turn out to be.
func TestConcurrentTokensAreReadWithinTheLimit(t *testing.T) {
	const crowd = 200
	outcome := func(code authn.Code) *authn.Rejection {
		if code == "" {
			return nil
		}
		return &authn.Rejection{Code: code}
	}
	for name, test := range map[string]struct {
		code         func(i int) authn.Code // of the i-th that is read
		read, atOnce int
		unread       authn.Code
	}{
		"forged ones":                   {func(int) authn.Code { return authn.SignatureInvalid }, 5, 5, authn.TooManyFailures},
		"ones of an unknown key":        {func(int) authn.Code { return authn.KeyUnknown }, 5, 5, authn.TooManyFailures},
		"valid ones, within the wait":   {func(int) authn.Code { return "" }, 6 * 5, 5, authn.KeysUnavailable},
		"expired ones, within the wait": {func(int) authn.Code { return authn.TokenExpired }, 6 * 5, 5, authn.KeysUnavailable},
		"tokens that cannot be decided": {func(int) authn.Code { return authn.KeysUnavailable }, 6 * 5, 5, authn.KeysUnavailable},
		"half of them forged": {func(i int) authn.Code {
			if i%2 == 0 {
				return authn.SignatureInvalid
			}
			return ""
		}, 9, 5, authn.TooManyFailures},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := failuresFor(t, 5, "192.0.2.1")
				var read, reading, most atomic.Int64
				var wg sync.WaitGroup
				for range crowd {
					wg.Go(func() {
						if rej := f.reserve(context.Background()); rej != nil {
							if rej.Code != test.unread {
								t.Errorf("refused unread with %s, want %s", rej.Code, test.unread)
							}
							return
						}
						i := int(read.Add(1)) - 1
						now := reading.Add(1)
						for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
						}
						time.Sleep(900 * time.Millisecond)
						reading.Add(-1)
						f.settle(outcome(test.code(i)))
					})
				}
				wg.Wait()
				if n := int(read.Load()); n > test.read || n < test.read-2 {
					t.Errorf("%d were read, want %d", n, test.read)
				}
				if n := int(most.Load()); n > test.atOnce {
					t.Errorf("%d were read at once", n)
				}
				checkNoReservations(t)
			})
		})
	}
}

// However many people behind one address log in at the same moment: none is refused.
func TestConcurrentLoginsFromOneAddressAreNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := failuresFor(t, 5, "192.0.2.1")
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if rej := f.reserve(context.Background()); rej != nil {
					t.Errorf("refused with %s", rej.Code)
					return
				}
				time.Sleep(100 * time.Microsecond)
				f.settle(nil)
			})
		}
		wg.Wait()
		checkNoReservations(t)
	})
}

// A client that leaves gives up its reservation, and takes no other client's. The number of waiting tokens is bounded.
func TestWaitingForAReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := failuresFor(t, 1, "2001:db8::")
		if rej := f.reserve(context.Background()); rej != nil {
			t.Fatal(rej.Code)
		}
		ctx, leave := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wait := func(ctx context.Context, want authn.Code) {
			wg.Go(func() {
				got := authn.Code("")
				rej := f.reserve(ctx)
				if rej != nil {
					got = rej.Code
				} else {
					f.settle(nil)
				}
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
			synctest.Wait()
		}
		wait(ctx, authn.KeysUnavailable)
		for range maxReserveWaiting - 1 {
			wait(context.Background(), "")
		}
		wait(context.Background(), authn.KeysUnavailable) // one too many
		leave()
		synctest.Wait()
		wait(context.Background(), "")
		f.settle(nil)
		wg.Wait()
		checkNoReservations(t)
	})
}

// A verification that panics gives its reservation back.
func TestPanicReleasesTheReservation(t *testing.T) {
	h := limitedHandler(t)
	h.registry.Messengers["support"].Verifier.Store(nil)
	func() {
		defer func() { _ = recover() }()
		visitor{t, h, "192.0.2.77:1000"}.send(forgedToken)
	}()
	checkNoReservations(t)
}
