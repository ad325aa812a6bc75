package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	// The nodes of this file are built with it; here it keeps its place in go.mod.
	_ "github.com/pberkel/caddy-storage-redis"
)

// A redisServer is a Redis of the test's own, on a free port and in a folder of the test.
type redisServer struct {
	t                  testing.TB
	program, addr, dir string
	cmd                *exec.Cmd
}

func startRedis(t testing.TB) *redisServer {
	t.Helper()
	r := &redisServer{t: t, program: requireTool(t, "redis-server"), addr: freeAddr(t), dir: t.TempDir()}
	r.run()
	t.Cleanup(r.kill)
	return r
}

// run starts the server. What was written before it was killed is there again.
func (r *redisServer) run() {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.addr)
	r.cmd = exec.Command(r.program, "--bind", host, "--port", port, "--dir", r.dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	patiently(r.t, "Redis answers", func() bool { return r.ask("PING\r\n") == "+PONG" })
}

func (r *redisServer) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// ask sends one inline command and returns the first line of the answer.
func (r *redisServer) ask(command string) string {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, command)
	answer := make([]byte, 512)
	n, _ := conn.Read(answer)
	line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	return line
}

// patiently is eventually for what other processes do on a busy machine.
func patiently(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within a minute: %s", what)
}

// clusterOptions are the global options of nodes that share a storage.
func clusterOptions(storage, keyFile string) string {
	return storage + "\nmessenger {\n poll_interval 500ms\n store {\n key {file." + keyFile + "}\n }\n}\n" +
		"messenger support {\n identity_key identity\n shared_token\n}"
}

const clusterSite = `
	handle /m/* {
		messenger_auth {path.1}
		respond ok
	}
	handle {
		messenger_auth support
		respond ok
	}`

// newCluster starts two nodes on one storage.
func newCluster(t testing.TB, storage string) (a, b *node) {
	t.Helper()
	binary, options := caddyBinary(t), clusterOptions(storage, storeKeyFile(t))
	a, b = newNode(t, binary, nil, options, clusterSite), newNode(t, binary, nil, options, clusterSite)
	a.run()
	b.run()
	return a, b
}

// clusters are the storages on which two processes are tested: a Redis server, and one folder. stop and start take it away
// and bring it back, where that can be done.
func clusters() map[string]func(t *testing.T) (a, b *node, r *redisServer) {
	return map[string]func(t *testing.T) (a, b *node, r *redisServer){
		"Redis": func(t *testing.T) (a, b *node, r *redisServer) {
			r = startRedis(t)
			a, b = newCluster(t, "storage redis {\n address "+r.addr+"\n}")
			return a, b, r
		},
		"file system": func(t *testing.T) (a, b *node, r *redisServer) {
			a, b = newCluster(t, "storage file_system "+t.TempDir())
			return a, b, nil
		},
	}
}

// Two gateways in processes of their own share a storage. Changes on one are active on the other within the poll interval.
func TestChangesOnOneNodeAreActiveOnTheOther(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, cluster := range clusters() {
		t.Run(name, func(t *testing.T) {
			a, b, _ := cluster(t)
			b.expect("503 keys_unavailable", "/", sign(newSecret(), valid("mark")))
			b.expect("404 messenger_unknown", "/m/acme/x", sign(newSecret(), valid("mark"))) // which b remembers
			// The clock runs from the answer of one node to the first that the other gives rightly. The machine may be
			// busy, so that the interval of half a second has a generous margin.
			within := func(what, path, token, want string) {
				t.Helper()
				started := time.Now()
				patiently(t, what, func() bool { return b.verdict(path, token) == want })
				if took := time.Since(started); took > 10*time.Second {
					t.Errorf("%s: after %s, and nodes look every 500ms", what, took)
				}
			}
			first := a.generate("support")
			within("a generated token", "/", first.signed(), "200")
			a.put("acme", generated)
			second := a.generate("acme")
			within("a created messenger", "/m/acme/x", second.signed(), "200")
			third := a.makeToken("rotate", "acme", map[string]any{"overlap": "1h"})
			within("a rotated token", "/m/acme/x", third.signed(), "200")
			b.expect("200", "/m/acme/x", second.signed())
			a.makeToken("reset", "acme", map[string]any{})
			within("a reset", "/m/acme/x", third.signed(), "401 signature_invalid")
			a.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": first.KID})
			within("a revoked token", "/", first.signed(), "503 keys_unavailable")
			a.want(200, "DELETE", "messengers/acme", nil)
			within("a deleted messenger", "/m/acme/x", second.signed(), "404 messenger_unknown")
			if list := b.want(200, "GET", "messengers", nil).body; strings.Contains(list, "acme") {
				t.Errorf("the other node lists %s", list)
			}
		})
	}
}

// Both nodes rotate the tokens of the same messengers at once. A call that was answered has made a token that is valid on
// both nodes as long as its overlap lasts.
func TestConcurrentRotationsLoseNoUpdates(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, cluster := range clusters() {
		t.Run(name, func(t *testing.T) {
			a, b, _ := cluster(t)
			var names []string
			for i := range 3 {
				names = append(names, fmt.Sprintf("m%d", i))
				a.put(names[i], generated)
				a.generate(names[i])
			}
			var mu sync.Mutex
			made := make(map[string][]sharedToken)
			var all sync.WaitGroup
			for _, n := range []*node{a, b} {
				for _, name := range names {
					all.Go(func() {
						for done := 0; done < 4; { // with the first one: nine of ten
							token, err := n.tryToken("rotate", name, map[string]any{"overlap": "1h"})
							if err != nil {
								t.Logf("not acknowledged: %v", err) // nothing is promised then, but the ring may have it
								if strings.Contains(err.Error(), "409") {
									return
								}
								continue
							}
							done++
							mu.Lock()
							made[name] = append(made[name], token)
							mu.Unlock()
						}
					})
				}
			}
			all.Wait()
			for _, name := range names {
				if len(made[name]) < 2 {
					t.Errorf("%s: only %d rotations were acknowledged", name, len(made[name]))
				}
				for _, token := range made[name] {
					for _, n := range []*node{a, b} {
						patiently(t, name+": an acknowledged token is valid", func() bool { return n.verdict("/m/"+name+"/x", token.signed()) == "200" })
					}
				}
				if left, right := a.ring(name), b.ring(name); left.Revision != right.Revision {
					t.Errorf("%s: the nodes tell of different rings: %+v %+v", name, left, right)
				}
			}
		})
	}
}

// Redis is killed. No verification stops, and what cannot be written is said to be not written; once it is back, both
// nodes know what the other has done.
func TestVerificationContinuesWhenRedisIsKilled(t *testing.T) {
	if !alone(t) {
		return
	}
	a, b, r := clusters()["Redis"](t)
	a.put("acme", generated)
	support, acme := a.generate("support"), a.generate("acme")
	for _, n := range []*node{a, b} {
		patiently(t, "both know the tokens", func() bool {
			return n.verdict("/", support.signed()) == "200" && n.verdict("/m/acme/x", acme.signed()) == "200"
		})
	}
	r.kill()
	for _, n := range []*node{a, b} {
		patiently(t, "the log says that the storage is gone", func() bool { return strings.Contains(n.logs(), "store cannot be read") })
		for range 20 {
			n.expect("200", "/", support.signed())
			n.expect("200", "/m/acme/x", acme.signed())
		}
		n.expect("503 keys_unavailable", "/m/unheard-of/x", acme.signed())
		if metrics, err := n.operator.send("GET", "../metrics", nil); err != nil || !strings.Contains(metrics.body, "caddy_messenger_auth_store_failing 1") {
			t.Errorf("the metrics do not tell of it: %v", err)
		}
	}
	a.refused(503, "POST", "messengers/support/tokens/generate", map[string]any{})
	r.run()
	for _, n := range []*node{a, b} {
		patiently(t, "the log says that the storage is back", func() bool { return strings.Contains(n.logs(), "store can be read again") })
	}
	renewed := b.makeToken("reset", "support", map[string]any{})
	patiently(t, "the other node knows the new token", func() bool { return a.verdict("/", renewed.signed()) == "200" })
	a.expect("401 signature_invalid", "/", support.signed())
	for _, n := range []*node{a, b} {
		n.expect("200", "/m/acme/x", acme.signed())
		patiently(t, "a name that nobody has is known to be nobody's", func() bool { return n.verdict("/m/unheard-of/x", acme.signed()) == "404 messenger_unknown" })
	}
}
