package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// A configuration that is being loaded, and may fail, has the key of the running one as that of the method before: a change of its own key
// file gives the chats of the running one no end.
func TestKeyFileChangeOfAFailingConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := func(name, letter string) string {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(strings.Repeat(letter, 40)), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		shared := func(path string) *config.SharedToken { return &config.SharedToken{Token: "{file." + path + "}"} }
		a := newTestNode(t, newServer(), "a")
		build := func(settings *config.Messenger) *Registry {
			reg := registryOn(a.Store, a.storage, zap.NewNop())
			if err := reg.Add("chat", settings, config.LoadedFiles{}); err != nil {
				t.Fatal(err)
			}
			reg.Store.attach(reg)
			t.Cleanup(reg.Messengers["chat"].cleanup)
			return reg
		}
		old, next := file("old", "a"), file("next", "b")
		running := build(&config.Messenger{IdentityKey: "identity", SharedToken: shared(old)})
		loading := build(&config.Messenger{IdentityKey: "identity", SharedToken: shared(next),
			Previous: &config.Previous{Until: Now().Add(time.Minute), SharedToken: shared(old)}})
		running.Activate(t.Context())
		running.Start(t.Context(), time.Second)
		chat := openUnder(t, running.Messengers["chat"], "mark", keyOf(running.Messengers["chat"]))
		loading.Start(t.Context(), time.Second)
		change := func(letter string) {
			if err := os.WriteFile(next, []byte(strings.Repeat(letter, 40)), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
		}
		change("c")
		if len(chat) > 0 {
			t.Error("a chat was ended by a configuration that does not run")
		}
		running.Stopped()
		loading.Activate(t.Context())
		change("d")
		if len(chat) == 0 {
			t.Error("a chat was not ended by the configuration that runs")
		}
	})
}
