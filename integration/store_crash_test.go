package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A state is what a messenger must be like after what was done to it.
type state struct {
	exists bool
	issuer string
	tokens map[string]string // by kid; "" for a token that was made by a call that nobody saw answered
	fresh  bool              // one token more is there, whose kid nobody knows
}

func (s state) clone() state {
	s.tokens = maps.Clone(s.tokens)
	return s
}

// fits reports whether a messenger that is there, with this issuer and these tokens, is in state s.
func (s state) fits(exists bool, issuer string, kids []string) bool {
	more := 0
	if s.fresh {
		more = 1
	}
	known := 0
	for _, kid := range kids {
		if _, ok := s.tokens[kid]; ok {
			known++
		}
	}
	return s.exists == exists && s.issuer == issuer && known == len(s.tokens) && len(kids) == known+more
}

// A writer is the only one who changes its messengers. It knows what state each must be in: one, or after a call that
// nobody answered one of two.
type writer struct {
	node   *node
	random *rand.Rand
	states map[string][]state
	acked  int
}

// step makes one random change, and reports whether it was acknowledged.
func (w *writer) step() (bool, error) {
	name := slices.Sorted(maps.Keys(w.states))[w.random.IntN(len(w.states))]
	now := w.states[name][0]
	after := now.clone()
	method, path, body := http.MethodPost, "messengers/"+name+"/tokens/", any(map[string]any{})
	switch action := w.random.IntN(8); {
	case !now.exists, action == 0 && name != "support":
		after.exists, after.issuer = true, fmt.Sprintf("https://%d.example", w.random.IntN(1000))
		method, path = http.MethodPut, "messengers/"+name
		body = map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "issuer": []string{after.issuer}}
	case action == 1 && name != "support":
		after = state{}
		method, path, body = http.MethodDelete, "messengers/"+name, nil
	case action == 2 || len(now.tokens) == 10:
		after.tokens, after.fresh = make(map[string]string), true
		path += "reset"
	case action == 3 && len(now.tokens) > 0:
		after.fresh = true
		path += "rotate"
	case action == 4 && len(now.tokens) > 0:
		kid := slices.Sorted(maps.Keys(now.tokens))[0]
		delete(after.tokens, kid)
		path, body = path+"revoke", map[string]any{"kid": kid}
	default:
		after.fresh = true
		path += "generate"
	}
	var headers []string
	if method == http.MethodPut && now.exists {
		headers = append(headers, "If-Match: *")
	}
	w.states[name] = []state{now, after} // until it is answered
	a, err := w.node.operator.send(method, path, body, headers...)
	if err != nil {
		return false, nil // the node was killed
	}
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		return false, fmt.Errorf("%s %s: got %d %s", method, path, a.status, a.body)
	}
	if after.fresh {
		var made sharedToken
		decode(w.node.gateway.t, a.body, &made)
		search.secret(made.Token)
		if after.tokens == nil {
			after.tokens = make(map[string]string)
		}
		after.tokens[made.KID], after.fresh = made.Token, false
	}
	w.states[name] = []state{after}
	w.acked++
	return true, nil
}

// check compares what the node knows with the states, and takes from it which of two it was.
func (w *writer) check(t *testing.T) {
	t.Helper()
	for name, states := range w.states {
		var d described
		var kids []string
		a := w.node.operator.do("GET", "messengers/"+name, nil)
		exists := a.status == http.StatusOK
		issuer := ""
		if exists {
			decode(t, a.body, &d)
			if list, ok := d.Settings["issuer"].([]any); ok {
				issuer = fmt.Sprint(list[0])
			}
			for _, token := range w.node.ring(name).Tokens {
				kids = append(kids, token.KID)
			}
		} else if a.status != http.StatusNotFound {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
			continue
		}
		i := slices.IndexFunc(states, func(s state) bool { return s.fits(exists, issuer, kids) })
		if i < 0 {
			t.Errorf("%s: it exists: %t, with %q and %v; acknowledged was %+v", name, exists, issuer, kids, states)
			continue
		}
		now := states[i].clone()
		if now.fresh {
			now.fresh = false
			if now.tokens == nil {
				now.tokens = make(map[string]string)
			}
			for _, kid := range kids {
				if _, known := now.tokens[kid]; !known {
					now.tokens[kid] = ""
				}
			}
		}
		w.states[name] = []state{now}
		path := "/m/" + name + "/x"
		if name == "support" {
			path = "/"
		}
		for _, token := range now.tokens {
			if token == "" {
				continue
			}
			c := valid("mark")
			c["iss"] = issuer
			w.node.expect("200", path, sign(token, c))
		}
	}
}

// A node is killed in the middle of random writes, again and again. What it leaves is a store that opens, and in which
// every acknowledged write holds; a write without an answer has happened, or has not. MESSENGER_SOAK=1 kills each
// node sixty times.
func TestKilledNodeLosesNoAcknowledgedWrites(t *testing.T) {
	if !alone(t) {
		return
	}
	const stores = 5
	kills := 2
	if soaking() {
		kills = 60
	}
	binary := caddyBinary(t)
	var all sync.WaitGroup
	run := func(store int) {
		t.Run(fmt.Sprintf("store %d", store), func(t *testing.T) {
			options := clusterOptions("storage file_system "+t.TempDir(), storeKeyFile(t))
			n := newNode(t, binary, nil, options, clusterSite)
			writers := []*writer{
				{node: n, random: rand.New(rand.NewPCG(uint64(store), 1)), states: map[string][]state{"a": {{}}, "b": {{}}}},
				{node: n, random: rand.New(rand.NewPCG(uint64(store), 2)), states: map[string][]state{"c": {{}}, "support": {{exists: true}}}},
			}
			for range kills {
				n.run()
				for _, w := range writers {
					w.check(t)
				}
				killInTheMiddle(t, n, writers)
				if t.Failed() {
					return
				}
			}
			n.run()
			acked := 0
			for _, w := range writers {
				w.check(t)
				acked += w.acked
			}
			if list := n.want(200, "GET", "messengers", nil).body; strings.Contains(list, "cannot be read") {
				t.Errorf("a value is damaged: %s", list)
			}
			n.makeToken("reset", "support", map[string]any{}) // the lock of a dead node is no lock for ever
			t.Logf("%d acknowledged writes, %d kills", acked, kills)
		})
	}
	// All at once, on however few cores: most of the time goes by until the lock of a dead node is old enough.
	for store := range stores {
		all.Go(func() { run(store) })
	}
	all.Wait()
}

// killInTheMiddle lets the writers write, and kills the node some time after the first write was acknowledged.
func killInTheMiddle(t *testing.T, n *node, writers []*writer) {
	t.Helper()
	acknowledged := make(chan struct{}, 1)
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() {
			for {
				acked, err := w.step()
				if err != nil {
					t.Error(err)
				}
				select {
				case acknowledged <- struct{}{}: // or refused, which ends this all the same
				default:
				}
				if !acked {
					return
				}
			}
		})
	}
	select {
	case <-acknowledged:
		time.Sleep(rand.N(500 * time.Millisecond))
	case <-time.After(60 * time.Second):
		t.Error("no write was acknowledged in a minute")
	}
	n.kill()
	all.Wait()
}

// Caddy's file system leaves half a value under a number for its name beside one that was being written when the process
// was killed. A number is a name that a messenger can have.
func TestHalfWrittenFilesAreIgnored(t *testing.T) {
	key := storeKeyFile(t)
	s := newSealedStore(t, key)
	places := make(map[string]bool)
	for file := range s.values {
		places[filepath.Dir(file)] = true
	}
	if places["messenger"] {
		t.Error("a value is in the folder of which messengers are listed, where half a value would be listed too")
	}
	for place := range places {
		for _, number := range []string{"1", "2084710769"} {
			if err := os.WriteFile(filepath.Join(s.folder, place, number), []byte("messenger-sea"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	g := start(t, nil, sealedOptions(s.folder, storeKeyFile(t), key), sealedSite)
	o := g.operator()
	var list []described
	decode(t, o.want(200, "GET", "messengers", nil).body, &list)
	if len(list) != 4 {
		t.Errorf("the list has %+v", list)
	}
	o.want(200, "POST", "reseal", map[string]any{})
	g.expect("404 messenger_unknown", "/m/2084710769/x", s.tokens["acme"].signed())
	g.expect("200", "/m/acme/x", s.tokens["acme"].signed())
}
