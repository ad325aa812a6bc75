package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// textSettings returns, for each setting with a text, a function that sets it. A new setting is in it without being written here.
func textSettings(t *testing.T) map[string]func(m *Messenger, text string) {
	t.Helper()
	found := make(map[string]func(m *Messenger, text string))
	for _, s := range Settings {
		switch s.field(&Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}).(type) {
		case *string:
			found[s.Name] = func(m *Messenger, text string) { *s.field(m).(*string) = text }
		case *[]string:
			found[s.Name] = func(m *Messenger, text string) { *s.field(m).(*[]string) = []string{"first", text} }
		case **JWKS:
			found[s.Name] = func(m *Messenger, text string) { m.JWKS.URL = text }
		case *[]PublicKey:
			found[s.Name] = func(m *Messenger, text string) { m.PublicKey = []PublicKey{{Key: "{file./key}", KeyID: text}} }
		}
	}
	if len(found) < 7 {
		t.Fatalf("got %d settings with a text", len(found))
	}
	return found
}

// An option that takes a placeholder literally refuses every token with 401, without saying why. One that resolves a missing variable
// to "" accepts tokens that it should refuse, such as those of any issuer.
func TestPlaceholdersInEveryTextOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_VALUE", "from-{env.OTHER}")
	t.Setenv("TEST_EMPTY", "")
	for name, set := range textSettings(t) {
		written := &Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}
		set(written, "a-{env.TEST_VALUE}-{file."+file+"}")
		before := *written.JWKS
		resolved, err := written.Resolved(make(LoadedFiles))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := &Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}
		set(want, "a-from-{env.OTHER}-from-file") // what a placeholder gives is not read again
		if got := textOf(resolved, name); got != textOf(want, name) {
			t.Errorf("%s: got %q, want %q", name, got, textOf(want, name))
		}
		if !reflect.DeepEqual(*written.JWKS, before) || strings.Contains(textOf(written, name), "from-") {
			t.Errorf("%s: what was written has changed", name)
		}
		for _, bad := range []string{"{env.TEST_EMPTY}", "{env.TEST_UNSET_EVER}", "{http.request.host}", "{tenantid}", "{file." + file + ".none}", "https://a.example/{env.TEST_EMPTY}/"} {
			refused := &Messenger{JWKS: new(JWKS), SharedToken: new(SharedToken)}
			set(refused, bad)
			_, err := refused.Resolved(make(LoadedFiles))
			placeholder := bad[strings.Index(bad, "{")+1 : strings.Index(bad, "}")]
			if err == nil || !strings.HasPrefix(err.Error(), name) || !strings.Contains(err.Error(), placeholder) {
				t.Errorf("%s %s: got %v, want an error with the option and the placeholder", name, bad, err)
			}
		}
	}
}

// textOf returns the texts of a setting, in one.
func textOf(m *Messenger, name string) string {
	if name == "public_key" {
		return m.PublicKey[0].KeyID
	}
	for _, s := range Settings {
		if s.Name == name {
			return strings.Join(s.Texts(m), " ")
		}
	}
	return ""
}

// A site owner cannot read the gateway's environment: in a stored messenger a brace is a brace, or refused.
func TestStoredMessengersHaveNoPlaceholders(t *testing.T) {
	for _, m := range []*Messenger{
		{IdentityKey: "{env.HOME}", SharedToken: new(SharedToken)},
		{IdentityKey: "sub", SharedToken: new(SharedToken), AllowedOrigin: []string{"{env.HOME}"}},
		{IdentityKey: "sub", JWKS: &JWKS{URL: "https://a.example/{env.HOME}"}},
		{IdentityKey: "sub", PublicKey: []PublicKey{{Key: "{env.HOME}"}}},
		{IdentityKey: "sub", SharedToken: new(SharedToken), Issuer: []string{"{env.HOME}"}},
		{IdentityKey: "sub", SharedToken: new(SharedToken), Audience: []string{"a", "x{file./etc/hostname}"}},
	} {
		if err := m.CheckSaved(func(string, string) bool { return false }); err == nil {
			t.Errorf("%+v: no error", m)
		}
	}
	m := &Messenger{IdentityKey: "sub", SharedToken: new(SharedToken), Issuer: []string{"https://login.example.com/{tenant}"}}
	if err := m.CheckStored(func(string, string) bool { return false }); err != nil || m.Issuer[0] != "https://login.example.com/{tenant}" {
		t.Errorf("an issuer with braces: %v", err)
	}
}
