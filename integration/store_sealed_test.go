package integration

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A sealedStore is a store with a key, and with tokens of all its messengers.
type sealedStore struct {
	folder string
	values map[string][]byte
	tokens map[string]sharedToken
}

func newSealedStore(t *testing.T, keyFiles ...string) *sealedStore {
	t.Helper()
	s := &sealedStore{folder: t.TempDir(), tokens: make(map[string]sharedToken)}
	g := start(t, nil, sealedOptions(s.folder, keyFiles...), sealedSite)
	o := g.operator()
	for _, name := range []string{"acme", "bolt"} {
		o.put(name, generated)
	}
	for name, path := range sealedPaths {
		s.tokens[name] = o.generate(name)
		g.expect("200", path, s.tokens[name].signed())
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	s.values = files(t, s.folder)
	return s
}

// tamperings are the attacks of an attacker who can write to the storage but does not have the key. plain has what a gateway
// without a key wrote for the attacker's tokens, and other what a gateway with another key wrote.
func tamperings(genuine, plain, other map[string][]byte) map[string]func(values map[string][]byte) {
	each := func(change func(value []byte) []byte) func(map[string][]byte) {
		return func(values map[string][]byte) {
			for _, name := range []string{"support", "acme"} {
				for _, key := range factKeys(values, name) {
					values[key] = change(slices.Clone(values[key]))
				}
			}
		}
	}
	// put puts what one messenger has in from at the keys of another.
	put := func(values map[string][]byte, name string, from map[string][]byte, source string) {
		sources := factKeys(from, source)
		for i, key := range factKeys(values, name) {
			values[key] = from[sources[i%len(sources)]]
		}
	}
	flip := func(at func(n int) int) func(map[string][]byte) {
		return each(func(value []byte) []byte {
			value[at(len(value))] ^= 1
			return value
		})
	}
	take := func(from map[string][]byte) func(map[string][]byte) {
		return func(values map[string][]byte) {
			put(values, "support", from, "support")
			put(values, "acme", from, "acme")
		}
	}
	return map[string]func(map[string][]byte){
		"values in clear":            take(plain),
		"values under another key":   take(other),
		"a value cut in half":        each(func(v []byte) []byte { return v[:len(v)/2] }),
		"a value cut by one byte":    each(func(v []byte) []byte { return v[:len(v)-1] }),
		"a value longer by one byte": each(func(v []byte) []byte { return append(v, 0) }),
		"only the prefix left":       each(func(v []byte) []byte { return v[:19] }),
		"nothing left":               each(func([]byte) []byte { return nil }),
		"an empty object":            each(func([]byte) []byte { return []byte("{}") }),
		"null":                       each(func([]byte) []byte { return []byte("null") }),
		"first bit flipped":          flip(func(int) int { return 0 }),
		"bit of the key's name":      flip(func(int) int { return 20 }),
		"bit in the middle":          flip(func(n int) int { return n / 2 }),
		"last bit flipped":           flip(func(n int) int { return n - 1 }),
		"facts of two messengers swapped": func(values map[string][]byte) {
			put(values, "support", genuine, "sales")
			put(values, "sales", genuine, "support")
			put(values, "acme", genuine, "bolt")
			put(values, "bolt", genuine, "acme")
		},
		"facts of a stored and a configured one swapped": func(values map[string][]byte) {
			put(values, "support", genuine, "acme")
			put(values, "acme", genuine, "support")
		},
		"the notification in place of facts": each(func([]byte) []byte { return genuine["messenger/_bell/bell"] }),
	}
}

// An attacker writes to the storage. A gateway that starts on it cannot decide about the messengers that were touched, and
// says so, to genuine tokens as well; one that runs keeps to what it has read. Neither takes what was put there.
func TestStorageAttackersCannotForgeValues(t *testing.T) {
	if !alone(t) {
		return
	}
	keyFile := storeKeyFile(t)
	plain, other := newSealedStore(t), newSealedStore(t, storeKeyFile(t))
	s := newSealedStore(t, keyFile)
	for name, tamper := range tamperings(s.values, plain.values, other.values) {
		changed := maps.Clone(s.values)
		tamper(changed)
		var bad []string // tokens of others, for the messengers that were touched
		for _, from := range []*sealedStore{plain, other} {
			for _, token := range from.tokens {
				bad = append(bad, token.signed(), token.signedWithKID())
			}
		}
		t.Run("fresh, "+name, func(t *testing.T) {
			restoreFiles(t, s.folder, changed)
			g := start(t, nil, sealedOptions(s.folder, keyFile), sealedSite)
			for _, touched := range []string{"support", "acme"} {
				for _, token := range append(bad, s.tokens["support"].signed(), s.tokens["acme"].signed(), s.tokens["sales"].signed()) {
					g.expect("503 keys_unavailable", sealedPaths[touched], token)
				}
			}
			if !strings.Contains(name, "swapped") {
				g.expect("200", sealedPaths["sales"], s.tokens["sales"].signed())
				g.expect("200", sealedPaths["bolt"], s.tokens["bolt"].signed())
			}
		})
		t.Run("running, "+name, func(t *testing.T) {
			restoreFiles(t, s.folder, s.values)
			g := start(t, nil, sealedOptions(s.folder, keyFile), sealedSite)
			for touched, path := range sealedPaths {
				g.expect("200", path, s.tokens[touched].signed())
			}
			restoreFiles(t, s.folder, changed)
			if err := os.Remove(filepath.Join(s.folder, "messenger/_bell/bell")); err != nil { // so that everything is read again
				t.Fatal(err)
			}
			// A change of another messenger, which this node follows afterwards: everything has been read again by then.
			g.operator().generate("bolt")
			for _, touched := range []string{"support", "acme"} {
				for _, token := range bad {
					if got := g.verdict(sealedPaths[touched], token); got == "200" {
						t.Errorf("%s: a token of an attacker is accepted", touched)
					}
				}
				g.expect("200", sealedPaths[touched], s.tokens[touched].signed())
			}
			restoreFiles(t, s.folder, s.values)
			for touched, path := range sealedPaths {
				eventually(t, touched+" decides again", func() bool { return g.verdict(path, s.tokens[touched].signed()) == "200" })
			}
		})
	}
}

// The store's key is changed: the new one in front, everything sealed again, the old one taken away.
func TestChangingTheStoreKey(t *testing.T) {
	oldKey, newKey := storeKeyFile(t), storeKeyFile(t)
	s := newSealedStore(t, oldKey)
	all := func(g *gateway, want string) {
		t.Helper()
		for name, path := range sealedPaths {
			g.expect(want, path, s.tokens[name].signed())
		}
	}
	reseal := func(g *gateway) int {
		t.Helper()
		step := g.operator().reseal(nil)
		if step.Unreadable > 0 || step.Foreign > 0 {
			t.Errorf("something is left: %+v", step)
		}
		return step.Resealed
	}
	g := start(t, nil, sealedOptions(s.folder, newKey, oldKey), sealedSite)
	all(g, "200")
	if n := reseal(g); n < len(sealedPaths) {
		t.Errorf("%d values were sealed again, want all: %d messengers, and the list of changes", n, len(sealedPaths))
	}
	if n := reseal(g); n != 0 {
		t.Errorf("a second time %d values are sealed again", n)
	}
	all(g, "200")
	g.load(sealedOptions(s.folder, newKey), sealedSite)
	all(g, "200")
	g.load(sealedOptions(s.folder, oldKey), sealedSite)
	all(g, "503 keys_unavailable")
	g.load(sealedOptions(s.folder), sealedSite)
	all(g, "503 keys_unavailable")
	g.operator().refused(503, "POST", "messengers/support/tokens/generate", map[string]any{})
	g.load(sealedOptions(s.folder, newKey), sealedSite)
	all(g, "200")
}

// A damaged value does not hide other values, and does not keep them from being sealed again.
func TestDamagedValueDoesNotBlockOthers(t *testing.T) {
	if !alone(t) {
		return
	}
	oldKey, newKey := storeKeyFile(t), storeKeyFile(t)
	s := newSealedStore(t, oldKey)
	changed := maps.Clone(s.values)
	damaged := factKeys(changed, "acme")[0]
	changed[damaged] = []byte("{}")
	restoreFiles(t, s.folder, changed)
	g := start(t, nil, sealedOptions(s.folder, newKey, oldKey), sealedSite)
	o := g.operator()
	step := o.reseal(nil)
	if len(step.Named) != 1 || step.Named[0].Key != damaged || step.Named[0].Messenger != "acme" || step.Unreadable != 1 || step.Resealed == 0 {
		t.Errorf("the answer does not name the value alone: %+v", step)
	}
	var list []described
	decode(t, o.want(200, "GET", "messengers", nil).body, &list)
	if len(list) != 4 || list[2].Name != "acme" || len(list[2].Warnings) != 1 || list[3].Name != "bolt" || list[3].Method != "shared_token" {
		t.Errorf("the list has %+v", list)
	}
	for range 20 { // nor does asking for it keep the store from being asked for another
		g.expect("503 keys_unavailable", sealedPaths["acme"], s.tokens["acme"].signed())
	}
	g.expect("200", sealedPaths["bolt"], s.tokens["bolt"].signed())
	g.load(sealedOptions(s.folder, newKey), sealedSite)
	for _, name := range []string{"support", "sales", "bolt"} {
		g.expect("200", sealedPaths[name], s.tokens[name].signed())
	}
	// It can be deleted, but not with If-Match, because its revision cannot be read.
	o.refused(503, "DELETE", "messengers/acme", nil, `If-Match: "x"`)
	o.want(200, "DELETE", "messengers/acme", nil)
	g.expect("404 messenger_unknown", sealedPaths["acme"], s.tokens["acme"].signed())
	o.put("acme", generated)
}

// A key comes to a store that had none. Values from before are not taken on trust, but on the operator's word.
func TestFirstStoreKey(t *testing.T) {
	s := newSealedStore(t)
	g := start(t, nil, sealedOptions(s.folder, storeKeyFile(t)), sealedSite)
	o := g.operator()
	for name, path := range sealedPaths {
		g.expect("503 keys_unavailable", path, s.tokens[name].signed())
	}
	if step := o.reseal(nil); step.Unreadable == 0 || !strings.Contains(step.Named[0].Reason, "not sealed") {
		t.Errorf("the answer does not say why: %+v", step)
	}
	if step := o.reseal(map[string]any{"adopt_unsealed": true}); step.Unreadable > 0 || step.Resealed == 0 {
		t.Errorf("with the operator's word: %+v", step)
	}
	for name, path := range sealedPaths {
		eventually(t, name+" is known again", func() bool { return g.verdict(path, s.tokens[name].signed()) == "200" })
	}
	for key, value := range files(t, s.folder) {
		if bytes.Contains(value, []byte("{")) && bytes.Contains(value, []byte("kid")) {
			t.Errorf("%s is not sealed", key)
		}
	}
}

// On a storage that others may read, nothing is written in clear: not by the API, and not by a gateway that stops.
func TestSharedStorageContainsNoPlainText(t *testing.T) {
	m, storage := newMemory(t)
	options := strings.Replace(liveOptions, "storage file_system DIR/store", storage, 1)
	g := start(t, newUpstream(t), options, liveSite)
	o := g.operator()
	for _, c := range [][2]string{{"PUT", "messengers/acme"}, {"POST", "messengers/support/tokens/generate"}} {
		body := any(generated)
		if c[0] == "POST" {
			body = map[string]any{}
		}
		if said := o.refused(409, c[0], c[1], body); !strings.Contains(said, "store { key {file.") {
			t.Errorf("%s %s: the error has not the line to add: %s", c[0], c[1], said)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if keys := m.keys("messenger"); len(keys) != 0 {
		t.Errorf("these were written: %v", keys)
	}
	sealed := strings.Replace(options, "poll_interval 50ms", "poll_interval 50ms\nstore {\n key {file."+storeKeyFile(t)+"}\n}", 1)
	g = start(t, newUpstream(t), sealed, liveSite)
	made := g.operator().generate("support")
	g.expect("200", "/", made.signed())
	for _, key := range m.keys("messenger") {
		if value, _ := m.Load(t.Context(), key); holds(value, made.Token) || bytes.HasPrefix(value, []byte("{")) {
			t.Errorf("%s is not sealed", key)
		}
	}
}
