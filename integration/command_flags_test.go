package integration

import (
	"strings"
	"testing"
)

// offline returns an administrator of a storage in which no gateway works. It has the configured messengers support and sales.
func offline(t *testing.T, folder string, keyFiles ...string) *administrator {
	t.Helper()
	file := write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(folder, keyFiles...)+"\n}\n"))
	return &administrator{newShell(t), []string{"--offline", "--config", file}}
}

// A misspelled position left out all that is before it, and said that everything was resealed.
func TestResealRefusesUnknownPositions(t *testing.T) {
	if !alone(t) {
		return
	}
	keyFile := storeKeyFile(t)
	s := newSealedStore(t)
	a := offline(t, s.folder, keyFile)
	for _, after := range []string{"zzz", "acme", "_bell", "00000000-acme"} {
		r := a.want(1, "is not a position", "", "reseal", "--adopt-unsealed", "--after", after)
		if strings.Contains(r.err, "To go on") || strings.Contains(r.err, "store resealed") {
			t.Errorf("after %s: %s", after, r.err)
		}
	}
	if r := a.want(0, " values resealed", "", "reseal", "--adopt-unsealed"); strings.HasPrefix(r.out, "0 ") {
		t.Errorf("nothing was left to reseal: %s", r.out)
	}
	g := start(t, nil, sealedOptions(s.folder, keyFile), sealedSite)
	for _, after := range []string{"zz", "acme", "\x00", "-"} {
		if got := g.operator().want(400, "POST", "reseal", map[string]any{"after": after}); !strings.Contains(got.body, "is not a position") {
			t.Errorf("%q: %s", after, got.body)
		}
	}
	for name, path := range sealedPaths {
		g.expect("200", path, s.tokens[name].signed())
	}
}

// A file of settings has all of them. What was next to it, or twice in it, was ignored, and the messenger was more open than it reads.
func TestAmbiguousSettingsFilesAreRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	a := offline(t, t.TempDir())
	const settings = `{"identity_key":"sub","shared_token":{},"audience":["chat"]}`
	a.want(0, "", settings, "create", "first", "--new-store", "--settings", "-")
	a.want(1, "cannot be combined with --audience", settings, "create", "acme", "--settings", "-", "--audience", "x")
	a.want(1, "--settings has text after the JSON object", settings+` {"mode":"off"} garbage`, "create", "acme", "--settings", "-")
	a.want(1, "--settings has null for \"audience\"", strings.Replace(settings, `["chat"]`, `null`, 1), "create", "first", "--replace", "--settings", "-")
	a.want(3, "there is no messenger", "", "show", "acme")
	a.want(0, `"chat"`, "", "show", "first", "--json")
	a.want(0, "mode off", strings.Replace(settings, "{", `{"mode":"off",`, 1), "create", "first", "--settings", "-", "--replace")
}
