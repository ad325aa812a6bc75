package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// everyStep is more steps than any test holds.
const everyStep = 1 << 30

// Row 3. A node is killed in the middle of a change, at each of its steps. On a shared folder it leaves its lock behind, which
// a process that took the same lock a moment ago keeps alive without knowing. Other nodes go on, and so does the killed one
// after a restart.
func TestKilledNodeDoesNotBlockOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{})
		a, b := c.nodes[0], c.nodes[1]
		n := 0
		for ; n < maxSteps && !t.Failed(); n++ {
			l := c.newLateChange(fmt.Sprintf("killed-%d", n))
			revocations := "messengers/" + l.name + "/revocations"
			held := c.wires[0].hold(1, nth(n))
			b.mustCall("B makes a change just before", http.MethodPost, revocations, map[string]any{"jti": "first"})
			_, done := a.begin(http.MethodPost, revocations, map[string]any{"identity": "zoe"})
			at, met := held.next(done)
			if !met {
				break
			}
			a.kill()
			b.mustCall(fmt.Sprintf("A was killed at step %d, %s %s: B revokes", n, at.op, at.key), http.MethodPost, revocations, map[string]any{"jti": "stolen"})
			held.release()
			a.run()
			l.everywhere("B's revocation", "401 token_revoked", l.path, l.stolen)
		}
		if n == 0 {
			t.Error("no step of a change was seen")
		}
	})
}

// Row 7. Many contacts log out at one messenger, and the storage is slow for it: so slow here that nothing is written before
// the test is over. Requests for others, and their revocations, do not wait for that.
func TestLogoutsAtOneMessengerDoNotDelayOthers(t *testing.T) {
	const logouts = 200
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{names: []string{"busy", "calm"}})
		a := c.nodes[0]
		secrets := make(map[string]sharedToken)
		for _, name := range []string{"busy", "calm"} {
			a.mustCall("creating it", http.MethodPut, "messengers/"+name, generated)
			secrets[name] = a.generate(name)
		}
		stolen := sign(secrets["calm"].Token, contact("mark", "stolen"))
		c.everywhere("before", "200", "/m/calm/x", stolen)
		var tokens []string
		for i := range logouts {
			tokens = append(tokens, sign(secrets["busy"].Token, contact(fmt.Sprint("contact ", i), fmt.Sprint("jti ", i))))
		}
		c.everywhere("before", "200", "/m/busy/x", tokens[0])

		held := c.wires[0].hold(everyStep, func(s step) bool { return s.writes && s.of("busy") })
		var loggedOut sync.Map
		var all sync.WaitGroup
		for _, token := range tokens {
			all.Go(func() {
				if a.logout(time.Minute, "busy", token).acknowledged() {
					loggedOut.Store(token, true)
				}
			})
		}
		if _, met := held.next(nil); !met {
			t.Fatal("no write of a logout was seen")
		}
		a.mustCall("an operator revokes at another messenger", http.MethodPost, "messengers/calm/revocations", map[string]any{"jti": "stolen"})
		c.everywhere("the revocation", "401 token_revoked", "/m/calm/x", stolen)
		held.release()
		all.Wait()
		loggedOut.Range(func(token, _ any) bool {
			c.everywhere("a logout that was acknowledged", "401 token_revoked", "/m/busy/x", token.(string))
			return !t.Failed()
		})
	})
}

// Row 8. The storage hangs: it takes connections and calls, and answers nothing. Every change is answered all the same,
// while it hangs, with 503; verification goes on. No change waits behind the time-outs of others.
func TestChangesAreAnsweredWhileTheStorageHangs(t *testing.T) {
	const logouts = 40
	const answered = 20 * time.Second // a bound of the test, far above one time-out
	onBoth(t, func(t *testing.T, storage string) {
		c := newFaultCluster(t, storage, clusterSettings{names: []string{"support"}, timeout: "#"}) // as most deployments have it
		a := c.nodes[0]
		secret := a.generate("support")
		var tokens []string
		for i := range logouts {
			tokens = append(tokens, sign(secret.Token, contact("mark", fmt.Sprint("jti ", i))))
		}
		other := sign(secret.Token, contact("zoe", "zoe"))
		c.everywhere("before", "200", "/m/support/x", other)

		resume := c.wires[0].pause()
		defer resume()
		var all sync.WaitGroup
		outcomes := make([]outcome, logouts+1)
		for i, token := range tokens {
			all.Go(func() { outcomes[i] = a.logout(answered, "support", token) })
		}
		all.Go(func() {
			outcomes[logouts] = a.call(answered, http.MethodPost, "messengers/support/revocations", map[string]any{"identity": "tom"})
		})
		a.expect("200", "/m/support/x", other)
		all.Wait()
		waiting := 0
		for _, got := range outcomes {
			if got.err != nil {
				waiting++
			} else if got.status != http.StatusServiceUnavailable {
				t.Errorf("nothing can be written: got %s", got)
			}
		}
		if waiting > 0 {
			t.Errorf("%d of %d changes were not answered while the storage hung", waiting, len(outcomes))
		}
		a.expect("200", "/m/support/x", other)
		resume()
		patiently(t, "a change is made afterwards", func() bool {
			return a.call(changeLimit, http.MethodPost, "messengers/support/revocations", map[string]any{"jti": "zoe"}).acknowledged()
		})
		c.everywhere("it", "401 token_revoked", "/m/support/x", other)
	})
}

// clientAt returns a client whose connections come from one address of the loopback network.
func clientAt(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, addr)
	}}}
}

// Row 11. Connections ask for names without a messenger, and each such name costs the storage some time. A messenger that
// exists is served, also if it is not in memory: its requests do not wait behind made-up names. Whether the flood has one
// address or many does not matter.
func TestMadeUpNamesDoNotDelayMessengers(t *testing.T) {
	if !alone(t) {
		return
	}
	const messengers = 20
	floods := 80 // more than may ask the storage at a time, and few enough that the processor is not what requests wait for
	if soaking() {
		floods = 300
	}
	for name, address := range map[string]func(i int) string{
		"from one address":    func(int) string { return "127.0.0.2" },
		"from many addresses": func(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%250) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newFaultCluster(t, onRedis, clusterSettings{})
			a, b := c.nodes[0], c.nodes[1]
			tokens := make(map[string]string)
			for i := range messengers {
				name := fmt.Sprintf("shop-%d", i)
				a.mustCall("creating it", http.MethodPut, "messengers/"+name, generated)
				tokens[name] = sign(a.generate(name).Token, contact("mark", "a"))
			}
			met := make(chan bool, floods)
			c.wires[1].on(func(s step) fate {
				if strings.Contains(s.key, "made-up-") {
					c.wires[1].sleep(100 * time.Millisecond)
					select {
					case met <- true:
					default:
					}
				}
				return forward
			})
			ctx, stop := context.WithCancel(context.Background())
			var flood sync.WaitGroup
			defer flood.Wait()
			defer stop()
			for i := range floods {
				client := clientAt(address(i))
				flood.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/m/made-up-%d-%d/x", b.url, i, n), nil)
						if err != nil {
							panic(err)
						}
						r.Header.Set("Authorization", "Bearer "+tokens["shop-0"])
						sendRequest(client, r)
					}
				})
			}
			for range floods {
				<-met
			}
			counts := make(map[string]int)
			for name, token := range tokens {
				counts[b.ask(changeLimit, "/m/"+name+"/x", token).verdict(t)]++
			}
			if counts["200"] != messengers {
				t.Errorf("of %d messengers that were not in memory: %v", messengers, counts)
			}
		})
	}
}
