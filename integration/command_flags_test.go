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
func TestResealGoesOnFromItsOwnPositionsOnly(t *testing.T) {
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
		if got := g.operator().want(400, "POST", "reseal", map[string]any{"after": after}); !strings.Contains(string(got.body), "is not a position") {
			t.Errorf("%q: %s", after, got.body)
		}
	}
	for name, path := range sealedPaths {
		g.expect("200", path, s.tokens[name].signed())
	}
}

