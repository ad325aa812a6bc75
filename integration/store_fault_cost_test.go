package integration

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// revokeMany revokes tokens of a messenger by their jti, from several clients at once.
func (n *node) revokeMany(t testing.TB, name, prefix string, count int) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(count) && !t.Failed(); i = next.Add(1) {
				if got := n.operator.call(time.Minute, http.MethodPost, "messengers/"+name+"/revocations", map[string]any{"jti": fmt.Sprint(prefix, i)}); !got.acknowledged() {
					t.Errorf("revoking: %s", got)
				}
			}
		})
	}
	all.Wait()
}

// revocationsPresent is how many revocations a messenger has where cost is measured. In CI few have to show that it does not
// grow.
func revocationsPresent() int {
	if soaking() {
		return 9_800 // 10,000 are the limit
	}
	return 400
}

// A busyStore is a cluster on Redis of which the traffic is measured, with a messenger that both nodes know.
type busyStore struct {
	*cluster
	secret sharedToken
	last   int
}

func newBusyStore(t testing.TB) *busyStore {
	t.Helper()
	s := &busyStore{cluster: newFaultCluster(t, onRedis, clusterSettings{names: []string{"acme", "other"}})}
	a := s.nodes[0]
	for _, name := range []string{"acme", "other"} {
		a.mustCall("creating it", http.MethodPut, "messengers/"+name, generated)
	}
	s.secret = a.generate("acme")
	s.everywhere("before", "200", "/m/acme/x", sign(s.secret.Token, contact("mark", "valid")))
	return s
}

// oneMore revokes one more token on the first node, waits until the second refuses it, and returns how many bytes the first
// has written to the storage and the second has read from it.
func (s *busyStore) oneMore() (written, read int64) {
	s.t.Helper()
	s.last++
	jti := fmt.Sprint("one more ", s.last)
	token := sign(s.secret.Token, contact("mark", jti))
	written, read = s.wires[0].sent.Load(), s.wires[1].came.Load()
	s.nodes[0].mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": jti})
	s.everywhere("it", "401 token_revoked", "/m/acme/x", token)
	return s.wires[0].sent.Load() - written, s.wires[1].came.Load() - read
}

// median measures some more, and returns the medians.
func (s *busyStore) median() (written, read int64) {
	s.t.Helper()
	const measured = 7
	var w, r []int64
	for range measured {
		written, read := s.oneMore()
		w, r = append(w, written), append(r, read)
	}
	slices.Sort(w)
	slices.Sort(r)
	return w[measured/2], r[measured/2]
}

// Row 6. With many revocations present one more costs what the first did: on the node that writes it, and on the others.
// What goes to the storage and comes from it is counted, since a machine's time says little. Other changes fill the lists by
// which nodes hear of changes, before the first measurement.
func TestRevocationCostIsConstant(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newBusyStore(t)
	count := revocationsPresent()
	s.nodes[0].revokeMany(t, "other", "filling ", 600)
	fewWritten, fewRead := s.median()
	s.nodes[0].revokeMany(t, "acme", "present ", count)
	manyWritten, manyRead := s.median()
	t.Logf("one more revocation: %d bytes written and %d read; with %d present: %d and %d", fewWritten, fewRead, count, manyWritten, manyRead)
	// A list of what is new may have 16 KiB, more when it is encoded for Redis, and says nothing of how much is present. How
	// often nodes ask for it differs from one measurement to the next.
	const lists = 24 << 10
	if manyWritten > fewWritten*12/10+lists {
		t.Errorf("with %d present a revocation writes %d bytes, and %d before", count, manyWritten, fewWritten)
	}
	if manyRead > fewRead*12/10+lists {
		t.Errorf("with %d present another node reads %d bytes for a revocation, and %d before", count, manyRead, fewRead)
	}
}

// Row 5. One messenger with many revocations changes often, and then its shared tokens are reset because one was stolen.
// Another node does not read everything again for every change: it reads about what is new, and the reset is not at the end
// of a long queue.
func TestManyChangesDoNotDelayAReset(t *testing.T) {
	const changes, bytesOfOne = 480, 8 << 10
	if !alone(t) {
		return
	}
	s := newBusyStore(t)
	a, b := s.nodes[0], s.nodes[1]
	count := revocationsPresent() * 6 / 10
	a.revokeMany(t, "acme", "present ", count)
	s.oneMore()
	stolen := sign(s.secret.Token, contact("zoe", "stolen"))
	s.everywhere("before", "200", "/m/acme/x", stolen)
	read := s.wires[1].came.Load()
	a.revokeMany(t, "acme", "change ", changes)
	a.mustCall("resetting", http.MethodPost, "messengers/acme/tokens/reset", map[string]any{})
	acknowledged, accepted := time.Now(), 0
	patiently(t, "the other node has the reset", func() bool {
		verdict := b.verdict("/m/acme/x", stolen)
		if verdict == "200" {
			accepted++
		}
		return verdict == "401 signature_invalid"
	})
	late := time.Since(acknowledged)
	read = s.wires[1].came.Load() - read
	t.Logf("%d changes with %d revocations present: the other node read %d bytes, had the reset after %s, and accepted the stolen token %d times meanwhile", changes, count, read, late, accepted)
	if read > changes*bytesOfOne {
		t.Errorf("the other node read %d bytes for %d changes, more than %d for each", read, changes, bytesOfOne)
	}
	if soaking() && late > pollInterval+time.Second {
		t.Errorf("the other node had the reset after %s", late)
	}
}

// With MESSENGER_SOAK=1: a thousand logouts a second at one messenger delay an operator's reset at another by 100 ms at most,
// at the 99th percentile.
func TestLogoutsAtFullSpeedDoNotDelayAReset(t *testing.T) {
	if !soaking() {
		t.Skip("not run: it measures times, which MESSENGER_SOAK=1 asks for")
	}
	const perSecond, seconds = 1000, 9 // a messenger has room for 10,000
	s := newBusyStore(t)
	a := s.nodes[0]
	resets := func(until <-chan struct{}) (took []time.Duration) {
		for {
			select {
			case <-until:
				slices.Sort(took)
				return took
			case <-time.After(100 * time.Millisecond):
			}
			begun := time.Now()
			a.mustCall("resetting", http.MethodPost, "messengers/other/tokens/reset", map[string]any{})
			took = append(took, time.Since(begun))
		}
	}
	quiet := make(chan struct{})
	time.AfterFunc(10*time.Second, func() { close(quiet) })
	alone := resets(quiet)

	var loggedOut, failed atomic.Int64
	tokens, over := make(chan string, perSecond), make(chan struct{})
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for token := range tokens {
				if a.logout(changeLimit, "acme", token).acknowledged() {
					loggedOut.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	go func() {
		defer close(over)
		defer close(tokens)
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for i := range perSecond * seconds {
			token := sign(s.secret.Token, contact(fmt.Sprint("contact ", i), fmt.Sprint("jti ", i)))
			<-tick.C
			tokens <- token
		}
	}()
	loaded := resets(over)
	all.Wait()
	p99 := func(took []time.Duration) time.Duration { return took[len(took)*99/100] }
	t.Logf("%d logouts in %d s, %d failed; a reset takes %s alone and %s beside them, at the 99th percentile", loggedOut.Load(), seconds, failed.Load(), p99(alone), p99(loaded))
	if failed.Load() > 0 {
		t.Error("some logouts failed")
	}
	if delay := p99(loaded) - p99(alone); delay > 100*time.Millisecond {
		t.Errorf("a reset is delayed by %s", delay)
	}
}

// BenchmarkOneMoreRevocation measures one more revocation with none and with 9,800 present (10,000 are the limit), from the call to its answer and
// until another node refuses the token.
func BenchmarkOneMoreRevocation(b *testing.B) {
	for _, present := range []int{0, 9_800} {
		b.Run(fmt.Sprintf("present=%d", present), func(b *testing.B) {
			s := newBusyStore(b)
			s.nodes[0].revokeMany(b, "acme", "present ", present)
			s.oneMore()
			var written, read int64
			for b.Loop() {
				w, r := s.oneMore()
				written, read = written+w, read+r
			}
			b.ReportMetric(float64(written)/float64(b.N), "written-B/op")
			b.ReportMetric(float64(read)/float64(b.N), "read-B/op")
		})
	}
}
