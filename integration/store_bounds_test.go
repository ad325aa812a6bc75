package integration

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// putStored writes text where the storage of the gateway has a key.
func putStored(t *testing.T, folder, key, text string) string {
	t.Helper()
	file := filepath.Join(folder, key)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// An attacker who can write to the storage puts 300 MB where a messenger should be. The gateway does not read them, answers
// keys_unavailable for that messenger alone, and its log names the value and what to do.
func TestHugeStoredValueIsNotRead(t *testing.T) {
	folder := t.TempDir()
	secret := newSecret()
	for _, key := range []string{"messenger/huge/stored", "messenger/support/ring", "messenger/_bell/bell", "messenger/_writers/abcdefghijklmnop"} {
		if err := os.Truncate(putStored(t, folder, key, "{"), 300<<20); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	options := "storage file_system " + folder + "\nmessenger {\n poll_interval 50ms\n}\n" +
		"messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}"
	g := start(t, nil, options, "handle /support/* {\n messenger_auth support\n respond ok\n}\nhandle {\n messenger_auth {path.0}\n respond ok\n}")
	token := sign(secret, valid("mark"))
	for range 5 {
		g.expect("503 keys_unavailable", "/support/", token)
		g.expect("503 keys_unavailable", "/huge/", token)
	}
	o := g.operator()
	var list []described
	decode(t, o.want(200, "GET", "messengers", nil).body, &list)
	if len(list) != 2 || list[0].Name != "huge" && list[1].Name != "huge" {
		t.Errorf("the list has %+v", list)
	}
	for _, path := range []string{"messengers/huge", "messengers/huge/tokens", "messengers/huge/keys", "messengers/support/revocations"} {
		o.refused(503, "GET", path, nil)
	}
	o.refused(503, "POST", "messengers/support/revocations", `{"all": true}`)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
	for _, key := range []string{"messenger/huge/stored", "messenger/support/ring"} {
		g.waitForLog(key + " has 314572800 bytes: the value is larger than any that the gateway writes")
	}
	g.waitForLog("delete it")
	// A change makes a new list of changes, and the value can be deleted like any that is damaged.
	o.want(200, "DELETE", "messengers/huge", nil)
	g.expect("404 messenger_unknown", "/huge/", token)
	if err := os.Remove(filepath.Join(folder, "messenger/support/ring")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the messenger decides again", func() bool { return g.verdict("/support/", token) == "200" })
}

// A stored value has no method, or two, or null where something should be: by hand, or by another version. Every page
// and every answer of the admin API is made all the same, and says what is wrong.
func TestStoredValueWithoutAMethodIsShown(t *testing.T) {
	g := startPanel(t, nil, "")
	folder := filepath.Join(filepath.Dir(g.log), "storage")
	u, o := g.panelOperator(), g.operator()
	o.put("good", generated)
	for name, text := range map[string]string{
		"nothing":   `{"revision":"r","version":1,"settings":{}}`,
		"no-method": `{"revision":"r","version":1,"settings":{"identity_key":"identity"}}`,
		"two":       `{"revision":"r","version":1,"settings":{"identity_key":"identity","shared_token":{},"jwks":{"url":"https://a.example"}}}`,
		"null-key":  `{"revision":"r","version":1,"settings":{"identity_key":"identity","public_key":[null]}}`,
		"null":      `null`,
		"no-record": `{}`,
		"types":     `{"revision":1,"settings":[]}`,
		"newer":     `{"revision":"r","version":1,"settings":{"identity_key":"identity","shared_token":{},"newer":1}}`,
	} {
		putStored(t, folder, "messenger/"+name+"/stored", text)
		g.expect("503 keys_unavailable", "/"+name+"/", sign(newSecret(), valid("mark")))
		for _, what := range []string{"", "/keys", "/tokens", "/revocations", "/readiness", "/history"} {
			if a := o.do("GET", "messengers/"+name+what, nil); a.status != 200 && a.status != 409 && a.status != 503 {
				t.Errorf("%s%s: got %d %s", name, what, a.status, a.body)
			}
		}
		for _, page := range []string{"", "keys", "test", "embed", "delete", "revocations", "history"} {
			a := u.get("?messenger=" + name + "&page=" + page)
			if a.status != 200 && a.status != 503 || strings.Contains(a.body, "could not be made") {
				t.Errorf("page %q of %s: got %d %s", page, name, a.status, a.text())
			}
		}
	}
	var list []described
	decode(t, o.want(200, "GET", "messengers", nil).body, &list)
	warned := 0
	for _, d := range list {
		if len(d.Warnings) > 0 && strings.Contains(d.Warnings[0], "keys_unavailable") {
			warned++
		}
	}
	if len(list) != 9 || warned != 8 {
		t.Errorf("%d are listed and %d of them with what is wrong: %+v", len(list), warned, list)
	}
	u.get("").says(t, 200, "no-method", "good")
	if strings.Contains(g.logs(), "panic") {
		t.Error("something panicked")
	}
}

// A site owner presses "Fetch now" as often as the mouse allows, on a key server that hangs, and goes away. The key server
// sees one fetch, and no other request waits in vain.
func TestFetchNowJoinsTheFetchUnderWay(t *testing.T) {
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := startPanel(t, nil, jwksMessenger(keys.url))
	eventually(t, "the key set is there", func() bool { return g.operator().keys("support").Usable })
	release, before := make(chan struct{}), keys.fetches.Load()
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(1), "b")}})))
	})
	ctx, leave := context.WithCancel(context.Background())
	press := func(ctx context.Context) (int, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/panel?page=keys&messenger=support", strings.NewReader(url.Values{"action": {"refresh"}}.Encode()))
		if err != nil {
			return 0, err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.SetBasicAuth("operator", panelPassword)
		resp, err := plainClient.Do(r)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}
	var first, all sync.WaitGroup
	first.Go(func() { _, _ = press(ctx) })
	eventually(t, "the first fetch has begun", func() bool { return keys.fetches.Load() > before })
	leave()
	first.Wait()
	for range 60 {
		all.Go(func() {
			if status, err := press(context.Background()); status != http.StatusSeeOther {
				t.Errorf("got %d %v", status, err)
			}
		})
	}
	all.Go(func() { g.operator().want(200, "POST", "messengers/support/refresh", map[string]any{}) })
	eventually(t, "all have asked", func() bool { return strings.Count(g.logs(), "key set refresh requested") >= 62 })
	if n := keys.fetches.Load() - before; n != 1 {
		t.Errorf("%d fetches are under way, want 1", n)
	}
	close(release)
	all.Wait()
	if n := keys.fetches.Load() - before; n > 2 { // what had asked and not begun to wait begins the second
		t.Errorf("%d fetches were made, want 1", n)
	}
	if a := g.get("/support/", bearer(signWithKID(rsaKey(1), "b", forChat("mark")))); a.status != 200 {
		t.Errorf("a token of the key that was fetched: got %d %s", a.status, a.body)
	}
}
