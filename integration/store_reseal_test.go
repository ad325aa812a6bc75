package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A resealing is a store with many messengers that are sealed with an old key, and a gateway that has a new one in front.
type resealing struct {
	t              testing.TB
	redis          *redisServer
	folder         string
	oldKey, newKey string
	made           sharedToken
	count          int
}

func newResealing(t testing.TB, storage string, count, revocations int) *resealing {
	t.Helper()
	s := &resealing{t: t, oldKey: storeKeyFile(t), newKey: storeKeyFile(t), count: count}
	if storage == onRedis {
		s.redis = startRedis(t)
	} else {
		s.folder = t.TempDir()
	}
	began := time.Now()
	s.made = newBulk(t, s.redis, s.folder, s.oldKey).messengers(count, revocations)
	t.Logf("%d messengers with %d values each after %s", count, 3+revocations, time.Since(began).Round(time.Second))
	return s
}

// node prepares a gateway with these keys. It does not run yet.
func (s *resealing) node(keyFiles ...string) *node {
	s.t.Helper()
	options := sealedOptions(s.folder, keyFiles...)
	if s.redis != nil {
		options = strings.Replace(options, "storage file_system "+s.folder, "storage redis {\n address "+s.redis.addr+"\n}", 1)
	}
	options = strings.Replace(options, "poll_interval 50ms", "poll_interval 500ms", 1)
	return newNode(s.t, caddyBinary(s.t), nil, options, faultSite("many1"))
}

// expectEverything checks what must be true whatever was resealed: some messengers of all, one that was deleted, and tokens that
// were revoked.
func (s *resealing) expectEverything(n *node, revoked int) {
	s.t.Helper()
	for i := 10; i < s.count; i += max(1, s.count/20) {
		n.expect("200", fmt.Sprintf("/m/many%d/x", i), sign(s.made.Token, contact("mark", "valid")))
		n.expect("401 token_revoked", fmt.Sprintf("/m/many%d/x", i), sign(s.made.Token, contact("mark", "present 0")))
	}
	n.expect("404 messenger_unknown", "/m/many5/x", s.made.signed())
	for i := range revoked {
		n.expect("401 token_revoked", "/m/many3/x", sign(s.made.Token, contact("mark", fmt.Sprint("meanwhile ", i))))
	}
	n.expect("401 token_revoked", "/m/many1/x", sign(s.made.Token, contact("mark", "logout")))
}

// The key of a store with many messengers is changed while contacts and operators go on, the caller goes away again and again, the
// gateway is killed in the middle, and a second operator does the same. Another gateway does not know the new key yet: it
// goes on with what it knows. With MESSENGER_SOAK=1 there are a million values.
func TestResealingWorksUnderLoad(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		count := 600
		if soaking() {
			count = 250_000
		}
		s := newResealing(t, storage, count, 1)
		n, older := s.node(s.newKey, s.oldKey), s.node(s.oldKey)
		n.run()
		older.run()
		older.expect("200", "/m/many9/x", sign(s.made.Token, contact("mark", "valid")))
		n.expect("200", "/m/many9/x", sign(s.made.Token, contact("mark", "valid")))

		for range 5 { // callers that go away
			_ = n.operator.call(20*time.Millisecond, http.MethodPost, "reseal", map[string]any{})
		}
		_, killed := n.operator.begin(http.MethodPost, "reseal", map[string]any{})
		time.Sleep(200 * time.Millisecond)
		n.kill()
		<-killed
		n.run()

		done := make(chan struct{})
		var beside load
		go func() {
			defer close(done)
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() { s.complete(n) })
			}
			both.Wait()
		}()
		n.mustCall("deleting one", http.MethodDelete, "messengers/many5", nil)
		if got := n.logout(changeLimit, "many1", sign(s.made.Token, contact("mark", "logout"))); !got.acknowledged() {
			t.Errorf("a logout: %s", got)
		}
		beside.run(s, n, done)
		beside.report(t, n)

		older.expect("200", "/m/many9/x", sign(s.made.Token, contact("mark", "valid")))
		if again := n.operator.reseal(nil); again.Resealed > 0 || again.Unreadable > 0 || again.Foreign > 0 {
			t.Errorf("a second run: %+v", again)
		}
		s.expectEverything(n, beside.revoked)
		n.kill()
		older.kill()
		last := s.node(s.newKey)
		last.run()
		s.expectEverything(last, beside.revoked)
		if found := last.operator.reseal(map[string]any{"check": true}); found.Unreadable > found.Left {
			t.Errorf("with the new key alone: %+v", found)
		}
	})
}

// complete takes steps until everything is resealed, whatever the answers.
func (s *resealing) complete(n *node) {
	body, after := map[string]any{}, ""
	began := time.Now()
	for steps := 0; ; {
		body["after"] = after
		got := n.operator.call(time.Minute, http.MethodPost, "reseal", body)
		if !got.acknowledged() {
			if time.Since(began) > time.Hour {
				s.t.Errorf("resealing: %s", got)
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var step resealed
		decode(s.t, got.body, &step)
		if step.Unreadable > 0 {
			s.t.Errorf("unreadable: %+v", step)
		}
		if steps++; step.Done {
			s.t.Logf("resealed in %d steps and %s", steps, time.Since(began).Round(time.Second/10))
			return
		}
		after = step.After
	}
}

// A load is what goes on beside resealing.
type load struct {
	revoked int
	took    []time.Duration // of revocations
	most    int64           // memory of the gateway, in bytes
}

// run revokes and asks until done, at least a few times.
func (l *load) run(s *resealing, n *node, done <-chan struct{}) {
	s.t.Helper()
	var asked atomic.Int64
	for i, over := 0, false; i < 3 || !over; i++ {
		select {
		case <-done:
			over = true
		case <-time.After(50 * time.Millisecond):
		}
		began := time.Now()
		n.mustCall("revoking", http.MethodPost, "messengers/many3/revocations", map[string]any{"jti": fmt.Sprint("meanwhile ", l.revoked)})
		l.took = append(l.took, time.Since(began))
		n.expect("401 token_revoked", "/m/many3/x", sign(s.made.Token, contact("mark", fmt.Sprint("meanwhile ", l.revoked))))
		if l.revoked++; l.revoked >= 5000 {
			<-done
			return
		}
		name := 10 + int(asked.Add(7919))%(s.count-10)
		n.expect("200", fmt.Sprintf("/m/many%d/x", name), sign(s.made.Token, contact("mark", "valid")))
		l.most = max(l.most, memoryOf(n))
	}
}

// report says how long revocations took. With MESSENGER_SOAK=1 it fails if that is too long.
func (l *load) report(t *testing.T, n *node) {
	t.Helper()
	slices.Sort(l.took)
	at := func(percent int) time.Duration {
		return l.took[min(len(l.took)-1, len(l.took)*percent/100)].Round(time.Millisecond / 10)
	}
	t.Logf("%d revocations: half within %s, 99 %% within %s, all within %s; the gateway had at most %d MiB", len(l.took), at(50), at(99), at(100), l.most>>20)
	if soaking() && at(99) > 100*time.Millisecond {
		t.Errorf("99 %% of the revocations take up to %s", at(99))
	}
	if soaking() && l.most > 512<<20 {
		t.Errorf("the gateway had %d bytes", l.most)
	}
}

// memoryOf returns how much memory a node's process has, in bytes.
func memoryOf(n *node) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(n.cmd.Process.Pid), "statm"))
	if err != nil {
		return 0
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(text), &size, &resident)
	return resident * int64(os.Getpagesize())
}
