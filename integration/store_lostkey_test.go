package integration

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A lostKey is a store whose key is gone, with tokens of all its messengers, one of which was revoked, and an administrator.
type lostKey struct {
	*sealedStore
	*administrator
	newKey  string
	revoked string // a contact's token of the configured messenger "support"
}

// newLostKey makes one. The commands ask a running gateway, or work offline.
func newLostKey(t *testing.T, offline bool) (*lostKey, *gateway) {
	t.Helper()
	oldKey := storeKeyFile(t)
	s := newSealedStore(t, oldKey)
	l := &lostKey{sealedStore: s, newKey: storeKeyFile(t)}
	g := start(t, nil, sealedOptions(s.folder, oldKey), sealedSite)
	l.revoked = sign(s.tokens["support"].Token, contact("mark", "revoked"))
	g.operator().want(200, "POST", "messengers/support/revocations", map[string]any{"jti": "revoked"})
	g.expect("401 token_revoked", "/support/x", l.revoked)
	for _, foreign := range []string{"notes.txt", "acme/README"} {
		if err := os.WriteFile(filepath.Join(s.folder, "messenger", foreign), []byte("of somebody else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copies := filepath.Join(s.folder, "messenger/_sets", strings.Repeat("ab", 16))
	if err := os.MkdirAll(copies, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copies, "copy"), s.values[factKeys(s.values, "acme")[0]], 0o600); err != nil {
		t.Fatal(err)
	}
	g.load(sealedOptions(s.folder, l.newKey), sealedSite)
	l.administrator = &administrator{newShell(t), []string{"--address", "unix/" + g.sock}}
	if offline {
		file := write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(s.folder, l.newKey)+"\n}\n"))
		l.where = []string{"--offline", "--config", file}
	}
	return l, g
}

// facts are the values of messengers: the nodes write others by themselves.
func (l *lostKey) facts() map[string][]byte {
	facts := files(l.t, l.folder)
	maps.DeleteFunc(facts, func(key string, _ []byte) bool { return strings.HasPrefix(key, "messenger/_") })
	return facts
}

// The key of the store is lost. Nothing opens, and discarding everything is refused until an operator says that this is meant:
// the key that is configured may be the wrong one. Then each value is named, and only then replaced. The configured messengers
// work again with a new token, the stored ones are gone, and nothing that was revoked is valid again. No file is touched by hand.
func TestRecoveryFromALostStoreKey(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, offline := range []bool{false, true} {
		t.Run(map[bool]string{false: "running", true: "offline"}[offline], func(t *testing.T) {
			l, g := newLostKey(t, offline)
			for name, path := range sealedPaths {
				g.expect("503 keys_unavailable", path, l.tokens[name].signed())
			}
			before := l.facts()
			l.want(1, "sealed with a key that is not configured", "", "reseal")
			l.want(4, "probably not the one of this store", "", "reseal", "--discard-unreadable", "--yes")
			g.operator().refused(409, "POST", "reseal", map[string]any{"discard_unreadable": true})
			said := l.want(4, "add --yes", "", "reseal", "--discard-unreadable", "--everything").err
			for _, want := range []string{"messenger support, configured", "messenger acme, stored", "messenger/_sets/", "notes.txt", "acme/README", "the messenger is deleted"} {
				if !strings.Contains(said, want) {
					t.Errorf("it does not name %s:\n%s", want, said)
				}
			}
			if after := l.facts(); !maps.EqualFunc(before, after, bytes.Equal) {
				t.Error("something was changed before it was confirmed")
			}
			l.want(0, "discarded", "", "reseal", "--discard-unreadable", "--everything", "--yes")
			for _, name := range []string{"acme", "bolt"} {
				patiently(t, name+" is gone", func() bool { return g.verdict(sealedPaths[name], l.tokens[name].signed()) == "404 messenger_unknown" })
			}
			for _, name := range []string{"support", "sales"} {
				made := l.token(name, "tokens", "generate", name)
				path := sealedPaths[name]
				patiently(t, name+" has the new token", func() bool { return g.verdict(path, l.tokens[name].signed()) == "401 signature_invalid" })
				g.expect("401 token_revoked", path, sign(made, contact("mark", "issued before"))) // it may have been revoked
				l.want(0, "", "", "revocations", "remove", name, "--all")
				patiently(t, name+" works", func() bool { return g.verdict(path, sign(made, valid("mark"))) == "200" })
			}
			g.expect("401 signature_invalid", "/support/x", l.revoked)
			l.want(0, "from the storage", "", "create", "acme", "--identity-key", "identity", "--shared-token")
			l.want(0, "0 values resealed", "", "reseal", "--discard-unreadable")
			for _, foreign := range []string{"notes.txt", "acme/README"} {
				if _, err := os.Stat(filepath.Join(l.folder, "messenger", foreign)); err != nil {
					t.Errorf("a foreign value is gone: %v", err)
				}
			}
			if err := caddy.Stop(); err != nil { // what was discarded does not come back with a restart
				t.Fatal(err)
			}
			g = start(t, nil, sealedOptions(l.folder, l.newKey), sealedSite)
			g.expect("401 signature_invalid", "/support/x", l.revoked)
			g.expect("503 keys_unavailable", "/m/acme/x", l.tokens["acme"].signed())
		})
	}
}

// One value of a messenger is damaged. It alone is discarded, the others go on, and what is known of it is not enough to let a token in
// that was revoked.
func TestOnlyDamagedValuesAreDiscarded(t *testing.T) {
	if !alone(t) {
		return
	}
	key := storeKeyFile(t)
	s := newSealedStore(t, key)
	changed := maps.Clone(s.values)
	damaged := []string{factKeys(changed, "support")[0], factKeys(changed, "acme")[0]}
	for _, name := range damaged {
		changed[name] = []byte("{}")
	}
	restoreFiles(t, s.folder, changed)
	g := start(t, nil, sealedOptions(s.folder, key), sealedSite)
	o := g.operator()
	found := o.reseal(map[string]any{"check": true})
	if found.Unreadable != 2 || !slices.Equal(found.kinds(), []string{"configured", "stored"}) || found.Opened == 0 {
		t.Errorf("looking: %+v", found)
	}
	g.expect("503 keys_unavailable", "/support/x", s.tokens["support"].signed())
	if done := o.reseal(map[string]any{"discard_unreadable": true}); done.Discarded != 2 || !done.Named[0].Discarded {
		t.Errorf("discarding: %+v", done)
	}
	g.expect("503 keys_unavailable", "/support/x", s.tokens["support"].signed()) // no token: the one that it had may have been revoked
	g.expect("404 messenger_unknown", "/m/acme/x", s.tokens["acme"].signed())
	g.expect("200", "/sales/x", s.tokens["sales"].signed())
	g.expect("200", "/m/bolt/x", s.tokens["bolt"].signed())
	o.generate("support")
	if again := o.reseal(map[string]any{"discard_unreadable": true}); again.Unreadable != 0 {
		t.Errorf("again: %+v", again)
	}
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range damaged {
		if !slices.ContainsFunc(bytes.Split(log, []byte("\n")), func(line []byte) bool {
			var entry struct{ Logger, Msg, Key string }
			return json.Unmarshal(line, &entry) == nil && entry.Logger == "messenger.audit" && entry.Msg == "unreadable value discarded" && entry.Key == name
		}) {
			t.Errorf("the audit log does not name %s", name)
		}
	}
}

// A storage that no gateway has used is probably another one than the gateway's. Run as root in the folder of another user, a command
// would write what the gateway cannot read.
func TestOfflineCommandsNameTheirStorage(t *testing.T) {
	if !alone(t) {
		return
	}
	a := &administrator{shell: newShell(t)}
	folder := filepath.Join(t.TempDir(), "store")
	file := write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(folder)+"\n}\n"))
	a.where = []string{"--offline", "--config", file}
	for _, args := range [][]string{{"list"}, {"reseal"}, {"tokens", "generate", "support"}, {"create", "acme", "--identity-key", "sub", "--shared-token"}} {
		if said := a.want(1, "there is no store in "+folder, "", args...).err; !strings.Contains(said, "storage: "+folder+"\n") || !strings.Contains(said, "--new-store") {
			t.Errorf("%v says %s", args, said)
		}
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("the folder was made")
	}
	a.where = append(a.where, "--new-store")
	a.token("support", "tokens", "generate", "support")
	a.where = a.where[:3]
	if said := a.want(0, "support", "", "list").err; said != "storage: "+folder+"\n" {
		t.Errorf("list says %q", said)
	}
	if os.Geteuid() != 0 {
		t.Skip("the rest was not run: only root can give a folder to another user")
	}
	if err := os.Chown(filepath.Join(folder, "messenger"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	before := files(t, folder)
	for _, args := range [][]string{{"reseal"}, {"tokens", "generate", "support"}, {"create", "acme", "--identity-key", "sub", "--shared-token"}} {
		a.want(1, "could not read what this command writes; run it as that user: sudo -u ", "", args...)
	}
	a.want(0, "support", "", "list")
	if after := files(t, folder); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Error("something was written")
	}
}
