package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A traveller has two gateways, one after the other in this process, and the commands between them.
type traveller struct {
	*administrator
	folder, config string // of the storage, and the configuration
	key            string // the file that seals secrets
}

// newTraveller makes commands that work offline on a storage of their own.
func newTraveller(t *testing.T) *traveller {
	t.Helper()
	tr := &traveller{folder: t.TempDir(), administrator: &administrator{shell: newShell(t)}, key: storeKeyFile(t)}
	tr.config = write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(tr.folder)+"\n}\n"))
	tr.where = []string{"--offline", "--config", tr.config}
	return tr
}

// at runs a gateway on a storage, and makes the commands speak with it.
func (tr *traveller) at(t *testing.T, folder string) *gateway {
	t.Helper()
	g := start(t, nil, sealedOptions(folder), sealedSite)
	tr.where = []string{"--address", "unix/" + g.sock}
	return g
}

// export writes an export into a file, and returns its name.
func (tr *traveller) export(args ...string) string {
	tr.t.Helper()
	file := filepath.Join(tr.t.TempDir(), "export.jsonl")
	ran := tr.run("", append([]string{"export", "--output", file}, args...)...)
	if ran.status != 0 || ran.out != "" || !strings.Contains(ran.err, " exported, ") {
		tr.t.Fatalf("export: status %d\n%s%s", ran.status, ran.out, ran.err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		tr.t.Errorf("the file is %v, %v", info, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		tr.t.Fatal(err)
	}
	search.add("export", text)
	return file
}

// imports imports a file, and checks what is said at the end.
func (tr *traveller) imports(status int, says, file string, args ...string) ran {
	tr.t.Helper()
	ran := tr.run("", append([]string{"import", "--input", file}, args...)...)
	if ran.status != status || !strings.Contains(ran.err, says) {
		tr.t.Errorf("import %v: status %d, want %d and %q\n%s%s", args, ran.status, status, says, ran.out, ran.err)
	}
	return ran
}

// What was exported is imported: what is revoked stays revoked, what is valid stays valid, without secrets none is in the file, and
// a second import changes nothing.
func TestMessengersAreExportedAndImported(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	from, to, plain := t.TempDir(), t.TempDir(), t.TempDir()
	g := tr.at(t, from)
	o := g.operator()
	o.put("acme", generated)
	o.put("bolt", map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0)))}}, "max_lifetime": "24h"})
	o.put("gone", generated)
	o.want(200, "DELETE", "messengers/gone", nil)
	first := o.generate("acme")
	second := o.makeToken("rotate", "acme", map[string]any{"overlap": "1h"})
	third := o.generate("acme")
	o.want(200, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": third.KID})
	support := o.generate("support")
	in := func(secret string, c claims) string { return sign(secret, c) }
	eve := contact("eve", "j-1")
	for _, r := range []map[string]any{{"jti": "j-1"}, {"identity": "mallory"}, {"jti": "j-2"}} {
		o.want(200, "POST", "messengers/acme/revocations", r)
		o.want(200, "POST", "messengers/bolt/revocations", r)
		o.want(200, "POST", "messengers/support/revocations", r)
	}
	o.want(200, "DELETE", "messengers/acme/revocations", map[string]any{"jti": "j-2"})
	without, with := tr.export(), tr.export("--secrets", tr.key)
	tr.want(1, "exists already", "", "export", "--output", without)

	verdicts := func(g *gateway, secrets bool) {
		t.Helper()
		if secrets {
			g.expect("200", "/m/acme/x", in(first.Token, contact("ann", "a")))
			g.expect("200", "/m/acme/x", in(second.Token, contact("ann", "a")))
			g.expect("200", "/support/x", in(support.Token, contact("ann", "a")))
			g.expect("401 signature_invalid", "/m/acme/x", in(third.Token, contact("ann", "a")))
			g.expect("401 token_revoked", "/m/acme/x", in(second.Token, eve))
			g.expect("401 token_revoked", "/m/acme/x", in(second.Token, contact("mallory", "b")))
			g.expect("200", "/m/acme/x", in(second.Token, contact("ann", "j-2")))
			g.expect("401 token_revoked", "/support/x", in(support.Token, eve))
		} else {
			g.expect("503 keys_unavailable", "/m/acme/x", in(first.Token, contact("ann", "a")))
		}
		now := time.Now()
		valid := func(identity, jti string) string {
			return sign(rsaKey(0), claims{"identity": identity, "jti": jti, "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(time.Hour).Unix()})
		}
		g.expect("200", "/m/bolt/x", valid("ann", "a"))
		g.expect("401 token_revoked", "/m/bolt/x", valid("ann", "j-1"))
		g.expect("401 token_revoked", "/m/bolt/x", valid("mallory", "b"))
		g.expect("404 messenger_unknown", "/m/gone/x", valid("ann", "a"))
	}
	verdicts(g, true)

	g = tr.at(t, to)
	if ran := tr.imports(0, "nothing was changed; an import would have: 2 created, 1 changed", with, "--merge", "--dry-run", "--secrets", tr.key); !strings.Contains(ran.out, "acme\tcreated") {
		t.Errorf("the dry run says %s", ran.out)
	}
	if names := g.operator().allListed("source=stored"); len(names) != 0 {
		t.Errorf("a dry run has made %v", names)
	}
	tr.imports(1, "cannot be opened", with, "--merge", "--secrets", storeKeyFile(t))
	tr.imports(0, "2 created, 1 changed, 0 unchanged, 0 conflicts", with, "--merge", "--secrets", tr.key)
	verdicts(g, true)
	for _, mode := range []string{"--merge", "--replace"} {
		tr.imports(0, "0 created, 0 changed, 3 unchanged, 0 conflicts", with, mode, "--secrets", tr.key)
		tr.imports(0, "0 created, 0 changed, 3 unchanged, 0 conflicts", without, mode)
	}
	if a, b := lines(t, with), lines(t, tr.export("--secrets", tr.key)); len(a) != len(b) {
		t.Errorf("%d lines were imported, and %d are exported again", len(a), len(b))
	} else {
		for i := range a {
			if got, want := without1(t, b[i]), without1(t, a[i]); got != want {
				t.Errorf("exported again:\n%s\nwant\n%s", got, want)
			}
		}
	}

	g = tr.at(t, plain)
	tr.imports(0, "2 created, 1 changed, 0 unchanged, 0 conflicts", without, "--merge")
	verdicts(g, false)
	if ran := tr.imports(0, "3 unchanged", without, "--merge"); ran.out != "" {
		t.Errorf("the second import says %s", ran.out)
	}
	tr.imports(4, "1 conflict", with, "--replace", "--secrets", tr.key) // tokens come only with a messenger that is created
}

// without1 is a line without what differs between two stores: IDs, and what is sealed.
func without1(t *testing.T, line string) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "secrets")
	if list, ok := m["revocations"].([]any); ok {
		for _, r := range list {
			delete(r.(map[string]any), "id")
		}
	}
	if list, ok := m["tokens"].([]any); ok {
		var kept []any // a token that is revoked does not travel
		for _, r := range list {
			if r := r.(map[string]any); r["revoked"] == nil {
				kept = append(kept, r)
			}
		}
		m["tokens"] = kept
	}
	return mustJSON(m)
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// A backup is imported into the store that it is from, later. Nothing that was revoked since becomes valid, nothing that was
// undone since is revoked again, and what was deleted stays deleted unless it is to be restored.
func TestOldExportDoesNotUndoChanges(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	o := g.operator()
	o.put("acme", generated)
	o.put("bolt", generated)
	a, b := o.generate("acme"), o.generate("bolt")
	old := o.generate("acme")
	o.want(200, "POST", "messengers/acme/revocations", map[string]any{"jti": "undone"})
	file := tr.export("--secrets", tr.key)
	o.want(200, "DELETE", "messengers/acme/revocations", map[string]any{"jti": "undone"})
	o.want(200, "POST", "messengers/acme/revocations", map[string]any{"jti": "new"})
	o.want(200, "POST", "messengers/bolt/revocations", map[string]any{"jti": "new"})
	o.want(200, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": old.KID})
	o.put("acme", map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "require_claims": []string{"exp"}})
	o.want(200, "DELETE", "messengers/bolt", nil)

	check := func(restored bool) {
		t.Helper()
		g.expect("200", "/m/acme/x", sign(a.Token, contact("ann", "undone")))
		g.expect("401 token_revoked", "/m/acme/x", sign(a.Token, contact("ann", "new")))
		g.expect("401 signature_invalid", "/m/acme/x", sign(old.Token, contact("ann", "a")))
		if !restored {
			g.expect("404 messenger_unknown", "/m/bolt/x", sign(b.Token, contact("ann", "a")))
			return
		}
		g.expect("200", "/m/bolt/x", sign(b.Token, contact("ann", "a")))
		g.expect("401 token_revoked", "/m/bolt/x", sign(b.Token, contact("ann", "new")))
	}
	says := tr.imports(4, "2 conflicts", file, "--merge", "--secrets", tr.key).out
	for _, want := range []string{"bolt\tconflict", "it was deleted here on", "acme\tconflict", "its settings differ (require_claims)"} {
		if !strings.Contains(says, want) {
			t.Errorf("the import does not say %q:\n%s", want, says)
		}
	}
	check(false)
	if says := tr.imports(0, "an import would have: 1 created, 1 changed", file, "--replace", "--dry-run", "--secrets", tr.key).out; !strings.Contains(says, "settings are replaced: require_claims") {
		t.Errorf("the dry run says\n%s", says)
	}
	check(false)
	tr.imports(0, "1 created, 1 changed, 0 unchanged", file, "--replace", "--secrets", tr.key)
	check(true)
	tr.imports(0, "0 created, 0 changed, 2 unchanged", file, "--replace", "--secrets", tr.key)
	check(true)
}

// Many revocations are made from a file, and once only.
func TestRevocationsAreImportedFromAFile(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	g.operator().put("acme", generated)
	made := g.operator().generate("acme")
	var b strings.Builder
	for i := range soak(9000) {
		fmt.Fprintf(&b, "{\"jti\":\"j-%d\"}\n", i)
	}
	b.WriteString("\n{\"identity\":\"mallory\",\"issued_before\":\"" + time.Now().UTC().Format(time.RFC3339) + "\"}\n{\"jti\":7}")
	tr.want(0, fmt.Sprintf("messenger acme: %d revoked, 0 were revoked already", soak(9000)+2), b.String(), "revocations", "import", "acme", "--input", "-")
	g.expect("401 token_revoked", "/m/acme/x", sign(made.Token, contact("ann", "j-17")))
	g.expect("401 token_revoked", "/m/acme/x", sign(made.Token, contact("ann", "7")))
	g.expect("401 token_revoked", "/m/acme/x", sign(made.Token, contact("mallory", "x")))
	g.expect("200", "/m/acme/x", sign(made.Token, contact("ann", "x")))
	tr.want(0, fmt.Sprintf("0 revoked, %d were revoked already", soak(9000)+2), b.String(), "revocations", "import", "acme", "--input", "-")
	for text, says := range map[string]string{
		`{"jti":"a"}` + "\n" + `{"jti":"b"`:       "line 2: it",
		`{"jti":"a","jti":"b"}`:                   "line 1: it is not a revocation: it has two members",
		`{"jti":"a","all":true}`:                  "line 1: exactly one",
		`{"name":"a"}`:                            "line 1: it is not a revocation",
		`{"jti":"` + strings.Repeat("x", 70<<10):  "line 1: it has more than",
		`{"jti":"a","issued_before":"yesterday"}`: "line 1: it is not a revocation",
	} {
		ran := tr.run(text, "revocations", "import", "acme", "--input", "-")
		if ran.status != 1 || !strings.Contains(ran.err, says) {
			t.Errorf("%.40q: status %d, want 1 and %q\n%s", text, ran.status, says, ran.err)
		}
	}
	tr.want(3, "there is no messenger", `{"jti":"a"}`, "revocations", "import", "nobody", "--input", "-")
}

// Two imports at once, while others change and delete the same messengers: nothing is lost that was acknowledged, and afterwards the
// import can be repeated.
func TestConcurrentImportsAndChanges(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	o := tr.at(t, tr.folder).operator()
	o.put("acme", generated)
	file := lines(t, tr.export())
	var text strings.Builder
	const many = 40
	for i := range many {
		revoked := `"revocations":[{"id":"a","created":"2026-01-01T00:00:00Z","jti":"old"}],"settings"`
		text.WriteString(strings.NewReplacer(`"acme"`, fmt.Sprintf(`"site%d"`, i), `"settings"`, revoked).Replace(file[len(file)-2]) + "\n")
	}
	fmt.Fprintf(&text, `{"format":1,"end":{"messengers":%d}}`, many)
	input := write(t, "import.jsonl", []byte(text.String()))
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if ran := tr.run("", "import", "--replace", "--input", input); ran.status != 0 && ran.status != 4 {
				t.Errorf("an import beside another: status %d\n%s%s", ran.status, ran.out, ran.err)
			}
		})
	}
	revoked := make([]bool, many)
	all.Go(func() {
		for i := range many {
			name := fmt.Sprintf("messengers/site%d", i)
			_, _ = o.send("PUT", name, generated, "If-None-Match: *")
			if i%4 == 1 {
				_, _ = o.send("DELETE", name, nil)
				continue
			}
			a, err := o.send("POST", name+"/revocations", map[string]any{"jti": "new"})
			revoked[i] = err == nil && a.status == 200
		}
	})
	all.Wait()
	tr.imports(0, "0 conflicts", input, "--replace")
	tr.imports(0, "40 unchanged", input, "--replace")
	for i := range many {
		var list []struct{ JTI string }
		decode(t, o.want(200, "GET", fmt.Sprintf("messengers/site%d/revocations", i), nil).body, &list)
		found := make(map[string]bool)
		for _, r := range list {
			found[r.JTI] = true
		}
		if !found["old"] || revoked[i] && !found["new"] {
			t.Errorf("site%d has the revocations %v, and one by an operator was acknowledged: %v", i, list, revoked[i])
		}
	}
}
