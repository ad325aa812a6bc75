package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Two nodes serve a stream of tokens, each used once, while they are reloaded again and again, tokens are revoked and the shared
// token is rotated. No valid token is refused, what was revoked stays so, and memory does not grow. MESSENGER_SOAK=1 takes half an
// hour and a million tokens, with a reload each 20 seconds.
func TestTwoNodesRefuseNoValidTokenOverALongRun(t *testing.T) {
	if soaking() {
		onBoth(t, func(t *testing.T, storage string) { longRun(t, storage, 30*time.Minute, 20*time.Second, 280) })
		return
	}
	if !alone(t) {
		return
	}
	longRun(t, onFolder, 6*time.Second, time.Second, 100)
}

// longRun sends that many tokens a second to each of two nodes.
func longRun(t *testing.T, storage string, length, pause time.Duration, rate int) {
	c := newFaultCluster(t, storage, clusterSettings{})
	for _, n := range c.nodes { // the logs of a million requests are of no use here
		n.kill()
		config, err := os.ReadFile(n.config)
		if err != nil {
			t.Fatal(err)
		}
		config = bytes.Replace(bytes.Replace(config, []byte("\nlog\n"), []byte("\n"), 1), []byte("level DEBUG"), []byte("level WARN"), 1)
		if err := os.WriteFile(n.config, config, 0o600); err != nil {
			t.Fatal(err)
		}
		n.run()
	}
	a := c.nodes[0]
	var secret atomic.Pointer[sharedToken]
	made := a.generate("support")
	secret.Store(&made)
	for _, n := range c.nodes {
		patiently(t, "the node knows the token", func() bool { return n.verdict("/", made.signed()) == "200" })
	}

	end := time.Now().Add(length)
	var sent, repeated atomic.Int64
	var all sync.WaitGroup
	// must sends until there is an answer: a reload resets connections that wait at the listener that it closes.
	must := func(n *node, token, want string) bool {
		for range 10 {
			o := n.ask(20*time.Second, "/", token)
			if o.err != nil {
				repeated.Add(1)
				continue
			}
			if got := o.verdict(t); got != want {
				t.Errorf("got %s, want %s", got, want)
				return false
			}
			return true
		}
		t.Errorf("no answer in ten tries")
		return false
	}
	for i, n := range c.nodes {
		for j := range 4 {
			all.Go(func() {
				ticker := time.NewTicker(4 * time.Second / time.Duration(rate))
				defer ticker.Stop()
				for k := 0; time.Now().Before(end) && !t.Failed(); k++ {
					<-ticker.C
					identity := fmt.Sprintf("contact-%d-%d-%d", i, j, k)
					if must(n, sign(secret.Load().Token, contact(identity, identity)), "200") {
						sent.Add(1)
					}
				}
			})
		}
	}
	reloads, revoked := 0, []string(nil)
	var memory []int
	for next := time.Now(); next.Before(end) && !t.Failed(); next = next.Add(pause) {
		time.Sleep(time.Until(next))
		for _, n := range c.nodes {
			if status, body, err := n.reload(fmt.Sprint("reload ", reloads)); err != nil || status != http.StatusOK {
				t.Errorf("reload: %v %d %s", err, status, body)
			}
		}
		reloads++
		jti := fmt.Sprint("revoked ", reloads)
		token := sign(secret.Load().Token, contact("zoe", jti))
		must(c.nodes[1], token, "200")
		a.mustCall("revoking", http.MethodPost, "messengers/support/revocations", map[string]any{"jti": jti})
		revoked = append(revoked, token)
		if reloads%10 == 0 {
			rotated := c.nodes[1].makeToken("rotate", "support", map[string]any{"overlap": "5m"})
			patiently(t, "both nodes know the new token", func() bool {
				return a.verdict("/", rotated.signed()) == "200" && c.nodes[1].verdict("/", rotated.signed()) == "200"
			})
			secret.Store(&rotated)
		}
		memory = append(memory, residentKiB(t, a.cmd.Process.Pid))
	}
	all.Wait()
	for _, n := range c.nodes {
		for _, token := range revoked[max(0, len(revoked)-10):] { // earlier ones may be of a shared token that has expired
			patiently(t, "what was revoked is refused", func() bool { return n.verdict("/", token) == "401 token_revoked" })
		}
	}
	t.Logf("%d tokens, %d reloads, %d requests sent again; resident memory %v KiB", sent.Load(), reloads, repeated.Load(), every(memory, 9))
	if n := len(memory); soaking() && memory[n-1] > memory[n/3]*5/4 {
		t.Errorf("memory grew from %d KiB after a third of the time to %d", memory[n/3], memory[n-1])
	}
	if sent.Load() < int64(length.Seconds())*int64(rate)/4 {
		t.Errorf("%d tokens were sent, which shows little", sent.Load())
	}
}

// every returns each nth of values.
func every(values []int, n int) (some []int) {
	for i := 0; i < len(values); i += n {
		some = append(some, values[i])
	}
	return some
}

// residentKiB returns the resident memory of a process.
func residentKiB(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("not run: there is no /proc")
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
