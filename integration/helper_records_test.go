package integration

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oldStore is what a gateway that kept records has written and said; see testdata/store-records/README.md.
type oldStore struct {
	dir, keyFile string
	storage      string // of the Caddyfile
	Requests     []struct{ Path, Token, Want string }
	Rings        map[string]ring
	Revocations  map[string][]map[string]any
	Settings     map[string]map[string]any
}

// newOldStore copies the store of that kind into a folder of the test. "Redis" is the sealed one, on Redis.
func newOldStore(t testing.TB, kind string) *oldStore {
	t.Helper()
	source := filepath.Join("testdata", "store-records", kind)
	if kind == onRedis {
		source = filepath.Join("testdata", "store-records", "sealed")
	}
	s := &oldStore{dir: t.TempDir()}
	s.storage = "storage file_system " + s.dir
	if err := os.CopyFS(filepath.Join(s.dir, "messenger"), os.DirFS(filepath.Join(source, "messenger"))); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(source, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, string(text), s)
	if key, err := os.ReadFile(filepath.Join(source, "store.key")); err == nil {
		s.keyFile = write(t, "store.key", key)
		search.secret(strings.TrimSpace(string(key)))
	}
	if kind == onRedis {
		s.moveToRedis(t)
	}
	return s
}

// moveToRedis moves the store to a Redis of its own, with Caddy's command for that.
func (s *oldStore) moveToRedis(t testing.TB) {
	t.Helper()
	redis := startRedis(t)
	archive, err := os.Create(filepath.Join(t.TempDir(), "storage.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	w := tar.NewWriter(archive)
	for key, value := range files(t, s.dir) {
		header := &tar.Header{Name: key, Size: int64(len(value)), Mode: 0o600}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(value) // Close says whether it was written
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config := write(t, "storage.json", []byte(mustJSON(map[string]any{"storage": map[string]any{"module": "redis", "address": []string{redis.addr}}})))
	out, err := exec.Command(caddyBinary(t), "storage", "import", "--config", config, "--input", archive.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("moving the store to Redis: %v\n%s", err, out)
	}
	s.storage = "storage redis {\n address " + redis.addr + "\n}"
}

// change changes a record that is not sealed.
func (s *oldStore) change(t testing.TB, key string, change func(string) string) {
	t.Helper()
	name := filepath.Join(s.dir, "messenger", filepath.FromSlash(key))
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}

const oldStoreSite = `
	handle /m/* {
		messenger_auth {path.1}
		respond ok
	}
	handle /fetched {
		messenger_auth fetched
		respond ok
	}
	handle {
		messenger_auth support
		respond ok
	}`

// node prepares a gateway of today on the store.
func (s *oldStore) node(t testing.TB) *node {
	store := ""
	if s.keyFile != "" {
		store = "store {\n key {file." + s.keyFile + "}\n }"
	}
	return newNode(t, caddyBinary(t), nil, s.storage+"\nmessenger {\n poll_interval 200ms\n jwks_internal_hosts 127.0.0.1\n "+store+"\n}\n"+
		"messenger support {\n identity_key identity\n shared_token\n}\nmessenger fetched {\n identity_key identity\n jwks http://127.0.0.1:47113/jwks.json\n}", oldStoreSite)
}

// check compares what a node says with what the old one said.
func (s *oldStore) check(t testing.TB, when string, n *node) {
	t.Helper()
	for name, was := range s.Rings {
		now := make(map[string]int)
		ring := n.ring(name)
		for i, token := range ring.Tokens {
			now[token.KID] = i + 1
		}
		last := 0
		for _, token := range was.Tokens { // in their order
			i := now[token.KID]
			if token.End != nil && token.End.Before(time.Now()) && i == 0 {
				continue // it may have been removed
			}
			if i == 0 || i < last {
				t.Errorf("%s: the token %s of %s is missing, or at another place: %v", when, token.KID, name, now)
				continue
			}
			last = i
			got := ring.Tokens[i-1]
			if got.Fingerprint != token.Fingerprint || fmt.Sprint(got.End) != fmt.Sprint(token.End) && !got.End.Equal(*token.End) {
				t.Errorf("%s: the token %s of %s is %+v, and was %+v", when, token.KID, name, got, token)
			}
			if token.LastUsed != nil && (got.LastUsed == nil || got.LastUsed.Before(*token.LastUsed)) {
				t.Errorf("%s: the token %s of %s was used last %v, want %v or later", when, token.KID, name, got.LastUsed, token.LastUsed)
			}
		}
	}
	for name, was := range s.Revocations {
		var now []map[string]any
		decode(t, n.want(200, "GET", "messengers/"+name+"/revocations", nil).body, &now)
		if !sameRevocations(now, was) {
			t.Errorf("%s: the revocations of %s are %v, and were %v", when, name, now, was)
		}
	}
	for name, was := range s.Settings {
		var now map[string]any
		decode(t, n.want(200, "GET", "messengers/"+name, nil).body, &now)
		for member, value := range was {
			if mustJSON(now[member]) != mustJSON(value) {
				t.Errorf("%s: %s of %s is %v, and was %v", when, member, name, now[member], value)
			}
		}
	}
	for _, r := range s.Requests {
		if r.Path == "/fetched" {
			continue
		}
		if got := n.verdict(r.Path, r.Token); got != r.Want {
			t.Errorf("%s: a request of %s got %s, and got %s", when, r.Path, got, r.Want)
		}
	}
}

// sameRevocations reports whether two lists have the same revocations, in any order.
func sameRevocations(a, b []map[string]any) bool {
	count := make(map[string]int)
	for _, v := range a {
		count[mustJSON(v)]++
	}
	for _, v := range b {
		count[mustJSON(v)]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
