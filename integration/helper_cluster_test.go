package integration

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The storages on which faults are tried: Redis behind a proxy for each node, and one folder.
const (
	onRedis  = "Redis"
	onFolder = "folder"
)

// onBoth runs a test on both storages, side by side.
func onBoth(t *testing.T, test func(t *testing.T, storage string)) {
	t.Helper()
	if !alone(t) {
		return
	}
	for _, storage := range []string{onRedis, onFolder} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			test(t, storage)
		})
	}
}

// A cluster is some gateways on one storage, each with a wire and a clock of its own.
type cluster struct {
	t      testing.TB
	nodes  []*node
	wires  []*wire
	clocks []*clock // only where they are wanted
	redis  *redisServer
	folder string
	key    string // the file of the store key
}

// clusterSettings are what differs from one cluster to another.
type clusterSettings struct {
	nodes   int      // two by default
	clocks  bool     // whether nodes get clocks that can be set
	names   []string // of messengers at whose logout path contacts can log out
	options string   // more global options
	timeout string   // an option of the Redis module in place of "timeout 1", which keeps tests short; "#" for none
	up      *upstream
	site    string // in place of faultSite
}

// newFaultCluster starts nodes. The secret of the configured messenger "support" is generated, as in other clusters.
func newFaultCluster(t testing.TB, storage string, settings clusterSettings) *cluster {
	t.Helper()
	c := &cluster{t: t, key: storeKeyFile(t)}
	if storage == onRedis {
		c.redis = startRedis(t)
	} else {
		c.folder = t.TempDir()
	}
	for range cmp.Or(settings.nodes, 2) {
		c.add(settings)
	}
	for _, n := range c.nodes {
		n.run()
	}
	return c
}

// add prepares one more node. It does not run yet.
func (c *cluster) add(settings clusterSettings) *node {
	c.t.Helper()
	var w *wire
	var storage string
	if c.redis != nil {
		proxy := newRedisProxy(c.t, c.redis.addr)
		w, storage = proxy.wire, "storage redis {\n address "+proxy.addr+"\n "+cmp.Or(settings.timeout, "timeout 1")+"\n}"
	} else {
		w, storage = newFolderWire(c.t, c.folder)
	}
	site := settings.site
	if site == "" {
		site = faultSite(settings.names...)
	}
	n := newNode(c.t, caddyBinary(c.t), settings.up, clusterOptions(storage, c.key)+"\n"+settings.options, site)
	if settings.clocks {
		clock, variable := newClock(c.t)
		c.clocks, n.env = append(c.clocks, clock), append(n.env, variable)
	}
	c.nodes, c.wires = append(c.nodes, n), append(c.wires, w)
	return n
}

// faultSite is clusterSite with a path for the logouts of the named messengers: /m/<name>/logout.
func faultSite(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "handle /m/%s/* {\n messenger_auth {path.1} {\n  logout_path /m/%s/logout\n }\n respond ok\n}\n", name, name)
	}
	return "messenger_health /healthz\n" + b.String() + clusterSite
}

// contact are the claims of a contact's token: long before now, so that clocks that differ by some minutes accept it, and
// every revocation of its contact covers it.
func contact(identity, jti string) claims {
	now := time.Now()
	return claims{"identity": identity, "jti": jti, "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(12 * time.Hour).Unix()}
}

// everywhere waits until every node has the verdict.
func (c *cluster) everywhere(what, want, path, token string) {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for i, n := range c.nodes {
		last := n.verdict(path, token)
		for ; last != want && time.Now().Before(deadline); last = n.verdict(path, token) {
			time.Sleep(20 * time.Millisecond)
		}
		if last != want {
			c.t.Errorf("%s: node %d says %s, want %s", what, i, last, want)
		}
	}
}

// stop stops the node's process as a full machine or a suspended one does, and waits until it has stopped.
func (n *node) stop() {
	_ = n.cmd.Process.Signal(syscall.SIGSTOP)
	stat := fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid)
	for range 2000 {
		text, err := os.ReadFile(stat)
		if _, state, _ := bytes.Cut(text, []byte(") ")); err != nil || bytes.HasPrefix(state, []byte("T")) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// resume lets a stopped node go on.
func (n *node) resume() { _ = n.cmd.Process.Signal(syscall.SIGCONT) }

// An outcome is what a caller of the admin API knows afterwards.
type outcome struct {
	answer
	err error
}

// acknowledged reports whether the change was made: the answer says so.
func (o outcome) acknowledged() bool { return o.err == nil && o.status < 300 }

// refusedForSure reports whether the change was not made. Any other error leaves that open.
func (o outcome) refusedForSure() bool { return o.err == nil && o.status >= 400 && o.status < 500 }

// verdict is "200", "401 token_revoked" or the like, or why there was no answer.
func (o outcome) verdict(t testing.TB) string {
	switch {
	case o.err != nil:
		return o.String()
	case o.status < 300:
		return fmt.Sprint(o.status)
	}
	return fmt.Sprintf("%d %s", o.status, o.code(t))
}

func (o outcome) String() string {
	if o.err != nil {
		return "no answer: " + o.err.Error()
	}
	return fmt.Sprintf("%d %s", o.status, strings.TrimSpace(o.body))
}

// call sends a request to the admin API and waits for the answer at most that long.
func (o *operator) call(limit time.Duration, method, path string, body any, headers ...string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	a, err := o.sendContext(ctx, method, path, body, headers...)
	return outcome{a, err}
}

// begin is call in the background. The channel gets the outcome and is closed; done is closed with it.
func (o *operator) begin(method, path string, body any, headers ...string) (result <-chan outcome, done <-chan struct{}) {
	outcomes, over := make(chan outcome, 1), make(chan struct{})
	go func() {
		outcomes <- o.call(2*time.Minute, method, path, body, headers...)
		close(over)
	}()
	return outcomes, over
}

// changeLimit is how long a test waits for a change that a healthy node has to make.
const changeLimit = 30 * time.Second

// mustCall is call for a change that a healthy node has to make now.
func (o *operator) mustCall(what, method, path string, body any) answer {
	o.t.Helper()
	got := o.call(changeLimit, method, path, body)
	if !got.acknowledged() {
		o.t.Fatalf("%s: %s %s: %s", what, method, path, got)
	}
	return got.answer
}

// logout logs a contact out with its token.
func (n *node) logout(limit time.Duration, name, token string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+"/m/"+name+"/logout", nil)
	if err != nil {
		return outcome{err: err}
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return sendRequest(plainClient, r)
}

// ask sends a request with a token, and returns the status and the code as verdict does, or an error.
func (n *node) ask(limit time.Duration, path, token string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+path, nil)
	if err != nil {
		return outcome{err: err}
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return sendRequest(plainClient, r)
}

func sendRequest(client *http.Client, r *http.Request) outcome {
	resp, err := client.Do(r)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return outcome{answer{resp.StatusCode, resp.Header, body.String()}, err}
}
