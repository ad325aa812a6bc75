package caddymodule_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
)

// Every setting is carried by the Caddyfile, by JSON, by the admin API, by the stored record and by the flags of create.
// The options, their lines and their flags are derived from the struct, so that a setting that one of them has forgotten is
// found here. The panel's form, the sixth way, has TestEverySettingSurvivesASave.

// withoutNotStored leaves out the settings that a stored messenger cannot have: its tokens are generated.
func withoutNotStored(m *config.Messenger) {
	if m.SharedToken != nil {
		m.SharedToken = &config.SharedToken{Alg: m.SharedToken.Alg}
	}
	for _, j := range []*config.JWKS{m.JWKS, previousOf(m)} {
		for i := range headersOf(j) {
			j.Header[i].Value = config.HiddenText(fmt.Sprint("secret value ", i)) // in place of a placeholder
		}
	}
	if m.Previous.SharedToken != nil {
		m.Previous = nil // there are no shared tokens that could be used any longer
	}
}

func previousOf(m *config.Messenger) *config.JWKS {
	if m.Previous == nil {
		return nil
	}
	return m.Previous.JWKS
}

func headersOf(j *config.JWKS) []config.RequestHeader {
	if j == nil {
		return nil
	}
	return j.Header
}

// A store is a configuration file whose storage is a folder.
type store struct {
	t    *testing.T
	file string
}

// storeKeyVariable holds the key of the store: the values of headers are stored sealed, or not at all.
const storeKeyVariable = "TEST_EVERY_SETTING_KEY"

func newStore(t *testing.T, messengers map[string]*config.Messenger) *store {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"storage": map[string]string{"module": "file_system", "root": t.TempDir()},
		"apps":    map[string]any{"messenger": map[string]any{"messengers": messengers, "store": map[string]any{"keys": []string{"{env." + storeKeyVariable + "}"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t, filepath.Join(t.TempDir(), "caddy.json")}
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends a request to the admin API of an app that is made anew, and knows nothing but what is stored.
func (s *store) ask(method, name string, body any) *config.Messenger {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	service, done, err := admin.OfflineApp(text)
	if err != nil {
		s.t.Fatal(err)
	}
	defer done()
	var content bytes.Buffer
	if err := json.NewEncoder(&content).Encode(body); err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest(method, admin.AdminPath+"messengers/"+name, &content)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPut && s.ask(http.MethodGet, name, nil) != nil {
		r.Header.Set("If-Match", "*")
	}
	w := httptest.NewRecorder()
	if err := service.ServeAdmin(w, r); err != nil {
		if method == http.MethodGet {
			return nil
		}
		s.t.Fatalf("%s %s: %v", method, name, err)
	}
	var d admin.Description
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		s.t.Fatal(err)
	}
	return d.Settings
}

// keeps fails the test if the stored messenger does not have the values of headers that m has. No answer has them.
func (s *store) keeps(name string, m *config.Messenger) {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	service, done, err := admin.OfflineApp(text)
	if err != nil {
		s.t.Fatal(err)
	}
	defer done()
	r, err := service.StoredRecord(s.t.Context(), name)
	if err != nil || !reflect.DeepEqual(r.Settings.Secrets(), m.Secrets()) {
		s.t.Errorf("%s: got %q (%v), want %q", name, r.Settings.Secrets(), err, m.Secrets())
	}
}

// create runs "caddy messenger create" on the storage.
func (s *store) create(args ...string) {
	s.t.Helper()
	cmd := &cobra.Command{Use: "messenger", SilenceErrors: true, SilenceUsage: true}
	caddycmd.Commands()["messenger"].CobraFunc(cmd)
	cmd.SetOut(new(bytes.Buffer))
	cmd.SetArgs(append([]string{"create", "--offline", "--config", s.file}, args...))
	if err := cmd.Execute(); err != nil {
		s.t.Errorf("create %q: %v", args, err)
	}
}

func TestEveryInterfaceSupportsEverySetting(t *testing.T) {
	t.Setenv(configtest.SecretVariable, strings.Repeat("ab", 64))
	t.Setenv(storeKeyVariable, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	for method, m := range configtest.Messengers(t, configtest.ValidText) {
		t.Run(method, func(t *testing.T) {
			same := func(way string, got, want *config.Messenger) {
				t.Helper()
				if got == nil {
					t.Fatalf("%s has no messenger", way)
				}
				for i, v := range reflect.ValueOf(want).Elem().Fields() {
					if g := reflect.ValueOf(got).Elem().FieldByIndex(i.Index); !reflect.DeepEqual(g.Interface(), v.Interface()) {
						t.Errorf("%s: %s: got %+v, want %+v", way, i.Name, g, v)
					}
				}
			}
			same("a copy", m.CopySettings(), m)
			same("the Caddyfile", adapted(t, caddyfileOf(linesOf(t, reflect.ValueOf(m).Elem(), ""))), m)
			s := newStore(t, map[string]*config.Messenger{"configured": m})
			same("a configuration in JSON", s.ask(http.MethodGet, "configured", nil), m)

			withoutNotStored(m)
			shown := m.WithoutSecrets()
			same("the answer to PUT", s.ask(http.MethodPut, "acme", m), shown)
			same("the stored record", s.ask(http.MethodGet, "acme", nil), shown)
			same("a replacement by what GET says", s.ask(http.MethodPut, "acme", s.ask(http.MethodGet, "acme", nil)), shown)
			s.keeps("acme", m)

			flags := append([]string{"made"}, flagsOf(t, linesOf(t, reflect.ValueOf(m).Elem(), ""))...)
			s.create(flags...)
			first := m.CopySettings()
			first.Previous = nil // a new messenger has none before
			same("create", s.ask(http.MethodGet, "made", nil), first.WithoutSecrets())
			s.keeps("made", first)
			s.ask(http.MethodPut, "made", m)
			s.create(append(flags, "--replace")...)
			same("create --replace with the same flags", s.ask(http.MethodGet, "made", nil), shown)
			s.keeps("made", m)
			for _, settings := range []*config.Messenger{m, shown} {
				file := filepath.Join(t.TempDir(), "settings.json")
				if err := os.WriteFile(file, []byte(asJSON(t, settings)), 0o600); err != nil {
					t.Fatal(err)
				}
				s.create("made", "--replace", "--settings", file)
				same("create --replace --settings", s.ask(http.MethodGet, "made", nil), shown)
				s.keeps("made", m)
			}
		})
	}
}

func asJSON(t *testing.T, m *config.Messenger) string {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// adapted is the only messenger of a Caddyfile.
func adapted(t *testing.T, text string) *config.Messenger {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		Apps struct {
			Messenger struct {
				Messengers map[string]*config.Messenger `json:"messengers"`
			} `json:"messenger"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(adapted, &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed.Apps.Messenger.Messengers["acme"]
}
