package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// storeKeyFile makes a store key as documented, and returns its file.
func storeKeyFile(t testing.TB) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	text := base64.StdEncoding.EncodeToString(key)
	search.secret(text)
	return write(t, "store.key", []byte(text+"\n"))
}

// sealedOptions are global options with a store in folder, sealed with the given keys, and with two configured
// messengers whose tokens are generated.
func sealedOptions(folder string, keyFiles ...string) string {
	store := ""
	for _, file := range keyFiles {
		store += "\n key {file." + file + "}"
	}
	if store != "" {
		store = "store {" + store + "\n}"
	}
	return "storage file_system " + folder + "\nmessenger {\n poll_interval 50ms\n" + store + "\n}\n" +
		"messenger support {\n identity_key identity\n shared_token\n}\nmessenger sales {\n identity_key identity\n shared_token\n}"
}

const sealedSite = `
	handle /m/* {
		messenger_auth {path.1}
		respond ok
	}
	handle /support/* {
		messenger_auth support
		respond ok
	}
	handle /sales/* {
		messenger_auth sales
		respond ok
	}`

// sealedPaths are the paths that lead to the messengers: two configured and two stored ones.
var sealedPaths = map[string]string{"support": "/support/x", "sales": "/sales/x", "acme": "/m/acme/x", "bolt": "/m/bolt/x"}

// files returns the values of a store by their keys.
func files(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	values := make(map[string][]byte)
	err := filepath.WalkDir(filepath.Join(folder, "messenger"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(folder, path)
		if err == nil {
			values[key], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// restoreFiles makes the store hold these values and no others. Each is replaced at once, since a gateway may be reading.
func restoreFiles(t testing.TB, folder string, values map[string][]byte) {
	t.Helper()
	for key := range files(t, folder) {
		if _, kept := values[key]; !kept {
			if err := os.Remove(filepath.Join(folder, key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for key, value := range values {
		path, fresh := filepath.Join(folder, key), filepath.Join(folder, "fresh")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(fresh, value, 0o600), os.Rename(fresh, path)); err != nil {
			t.Fatal(err)
		}
	}
}

// holds reports whether text has a part of secret, written in one of the ways in which a secret gets somewhere.
func holds(text []byte, secret string) bool {
	random := strings.TrimPrefix(secret, "mst_")
	for i := 0; i+12 <= len(random); i++ {
		if bytes.Contains(text, []byte(random[i:i+12])) {
			return true
		}
	}
	for _, written := range []string{base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(random)), hex.EncodeToString([]byte(secret))} {
		if bytes.Contains(text, []byte(written[:20])) {
			return true
		}
	}
	return false
}

// A token's text is shown by the call that made it. Afterwards it is nowhere to be had: not from the API, the commands,
// Caddy's configuration, its log and metrics, or the storage.
func TestSharedTokenIsShownOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	folder := t.TempDir()
	g := start(t, nil, sealedOptions(folder, storeKeyFile(t)), sealedSite)
	o := g.operator()
	o.put("acme", generated)
	var made []sharedToken
	for _, name := range []string{"support", "acme"} {
		made = append(made, o.generate(name), o.makeToken("rotate", name, map[string]any{}))
		g.expect("200", sealedPaths[name], made[len(made)-1].signed())
	}
	made = append(made, o.makeToken("reset", "support", map[string]any{}), o.generate("acme"))

	texts := make(map[string][]byte)
	for _, name := range []string{"support", "acme"} {
		token := made[len(made)-1].signed()
		for _, what := range []string{"", "/keys", "/tokens", "/tokens/" + made[0].KID, "/tokens/generate", "/ring", "/stored"} {
			path := "messengers/" + name + what
			texts["GET "+path] = []byte(o.do("GET", path, nil).body)
		}
		texts["explain "+name] = []byte(o.do("POST", "messengers/"+name+"/explain", map[string]any{"token": token}).body)
	}
	texts["GET messengers"] = []byte(o.do("GET", "messengers", nil).body)
	texts["PUT acme"] = []byte(o.do("PUT", "messengers/acme", generated, "If-Match: *").body)
	for _, path := range []string{"../config/", "../metrics", "../debug/vars"} {
		a, err := o.send("GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		texts["GET "+path] = []byte(a.body)
	}
	s := newShell(t)
	for _, args := range [][]string{
		{"list"}, {"list", "--json"}, {"show", "acme"}, {"show", "acme", "--json"}, {"show", "support", "--json"},
		{"tokens", "list", "acme"}, {"tokens", "list", "support", "--json"}, {"keys", "support", "--json"}, {"keys", "acme"},
	} {
		ran := s.messenger("", append(args, "--address", "unix/"+g.sock)...)
		if ran.status != 0 {
			t.Errorf("caddy messenger %s: status %d %s", strings.Join(args, " "), ran.status, ran.err)
		}
		texts["caddy messenger "+strings.Join(args, " ")] = []byte(ran.out + ran.err)
	}
	if saved, err := os.ReadFile(caddy.ConfigAutosavePath); err == nil {
		texts["autosave"] = saved
	}
	if err := caddy.Stop(); err != nil { // which writes once more
		t.Fatal(err)
	}
	texts["log"] = []byte(g.logs())
	maps.Copy(texts, files(t, folder))
	for where, text := range texts {
		for i, m := range made {
			if holds(text, m.Token) {
				t.Errorf("%s has a part of token %d", where, i)
			}
		}
	}

	// The search finds what is there: without a store key, on the file system, the storage has the tokens.
	folder = t.TempDir()
	g = start(t, nil, sealedOptions(folder), sealedSite)
	plain := g.operator().generate("support")
	if !slices.ContainsFunc(slices.Collect(maps.Values(files(t, folder))), func(text []byte) bool { return holds(text, plain.Token) }) {
		t.Error("the search does not find a token in an unsealed storage")
	}
}
