package integration

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// spoilings are what can become of a file so that it does not give back what was written.
var spoilings = map[string]func(t *testing.T, file string){
	"truncated": func(t *testing.T, file string) { must(t, os.Truncate(file, 10)) },
	"too large": func(t *testing.T, file string) { must(t, os.WriteFile(file, make([]byte, 2<<20), 0o600)) },
	"a folder": func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Mkdir(file, 0o700))
	},
	"a folder with something in it": func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Mkdir(file, 0o700))
		must(t, os.WriteFile(file+"/x", nil, 0o600))
	},
	"a link to itself": func(t *testing.T, file string) { // refused by the file system, as what belongs to another user is
		must(t, os.Remove(file))
		must(t, os.Symlink(file, file))
	},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// One file cannot be read. Nothing is decided about its messenger, and nothing else suffers: requests, lists and exports go on with the
// others. A node that knows what was in the file writes it back, with everything else that is lost, whatever cannot be written.
func TestUnreadableFileAffectsOneMessenger(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, spoil := range spoilings {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			knows := diskNode(t, folder)
			o := knows.operator
			names := []string{"acme", "bolt", "cups", "dove", "elk"}
			tokens := make(map[string]sharedToken)
			for _, name := range names {
				o.put(name, generated)
				tokens[name] = o.generate(name)
				o.want(200, "POST", "messengers/"+name+"/revocations", map[string]any{"identity": "eve", "issued_before": "2100-01-01T00:00:00Z"})
			}
			file, _ := factFile(t, folder, "acme", `"eve"`)
			lost, _ := factFile(t, folder, "cups", `"eve"`)
			must(t, os.Remove(lost))
			spoil(t, file)

			fresh := diskNode(t, folder) // knows nothing but what is stored
			for _, name := range names {
				want := "200"
				if name == "acme" {
					want = "503 keys_unavailable"
				}
				fresh.expect(want, "/m/"+name+"/x", sign(tokens[name].Token, contact("ann", "a")))
			}
			listed := fresh.operator.want(200, "GET", "messengers?source=stored", nil).body
			if strings.Count(listed, `"stored"`) != len(names) || strings.Count(listed, "cannot be read") != 1 {
				t.Errorf("listed are %s", listed)
			}
			var exported struct {
				Lines  []any
				Failed []struct{ Messenger, Error string }
			}
			decode(t, fresh.operator.want(200, "POST", "export", map[string]any{}).body, &exported)
			if len(exported.Failed) != 1 || exported.Failed[0].Messenger != "acme" || exported.Failed[0].Error == "" {
				t.Errorf("the export has %d lines, and failures %v", len(exported.Lines), exported.Failed)
			}

			var done struct {
				Repaired int
				Failed   []struct{ Messenger, Error string }
			}
			decode(t, o.want(200, "POST", "repair", map[string]any{}).body, &done)
			writable := !strings.HasPrefix(name, "a folder")
			if want := map[bool]int{true: 2, false: 1}[writable]; done.Repaired != want || (len(done.Failed) == 0) != writable {
				t.Errorf("repaired are %d, want %d; failed have %v", done.Repaired, want, done.Failed)
			}
			fresh.kill()
			fresh.run()
			for _, name := range []string{"acme", "bolt", "cups"} {
				want := "401 token_revoked"
				if name == "acme" && !writable {
					want = "503 keys_unavailable"
				}
				fresh.expect(want, "/m/"+name+"/x", sign(tokens[name].Token, contact("eve", "a")))
			}
		})
	}
}

// A node hears of a change that it cannot read. With store_max_age it does not go on for longer than that without it.
func TestUnreadableFileCountsForStoreMaxAge(t *testing.T) {
	if !alone(t) {
		return
	}
	folder := t.TempDir()
	options := "storage file_system " + folder + "\nmessenger {\n poll_interval 200ms\n store_max_age 2s\n}\nmessenger support {\n identity_key identity\n shared_token\n}"
	a, b := newNode(t, caddyBinary(t), nil, options, clusterSite), newNode(t, caddyBinary(t), nil, options, clusterSite)
	a.run()
	b.run()
	a.operator.put("acme", generated)
	token := a.operator.generate("acme")
	stolen := sign(token.Token, contact("mark", "stolen"))
	b.expect("200", "/m/acme/x", stolen)
	b.stop()
	a.operator.want(200, "POST", "messengers/acme/revocations", map[string]any{"identity": "mark", "issued_before": "2100-01-01T00:00:00Z"})
	file, _ := factFile(t, folder, "acme", `"mark"`)
	spoilings["a link to itself"](t, file)
	b.resume()
	patiently(t, "the node does not decide any more", func() bool { return b.get("/m/acme/x", bearer(stolen)).status == http.StatusServiceUnavailable })
}
