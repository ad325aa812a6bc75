package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// A messenger that no directive uses is a chat without a gateway: its messenger_auth was forgotten, lost, or names
// another messenger. One warning at each load names it.
func TestUnusedMessengerIsReportedAtLoad(t *testing.T) {
	messengers := methods(t)[0].messengers
	for _, name := range []string{"sales", "chat-eu"} {
		messengers += "\nmessenger " + name + " {\n identity_key identity\n audience " + name + "\n shared_token {file." + write(t, name, []byte(newSecret())) + "}\n}"
	}
	messengers = strings.Replace(messengers, "identity_key identity", "identity_key identity\n audience support", 1)
	tests := []struct {
		name, site string
		want       []string
	}{
		{"none is used", "respond chat", []string{"chat-eu", "sales", "support"}},
		{"one is used", "messenger_auth support", []string{"chat-eu", "sales"}},
		{"one is used twice", "messenger_auth /a support\nmessenger_auth /b support", []string{"chat-eu", "sales"}},
		{"all are used", "handle /a {\nmessenger_auth support\n}\nhandle /b {\nmessenger_auth sales\n}\nhandle {\nmessenger_auth chat-eu\n}", nil},
		{"the path names it", "messenger_auth {path.0}", nil},
		{"the host names it", "messenger_auth {labels.2}", nil},
		{"the path names a part", "messenger_auth chat-{path.0}", []string{"sales", "support"}},
		{"switched off", "messenger_auth sales {\nmode off\n}", []string{"chat-eu", "support"}},
		{"in a named route", "invoke auth\n}\n&(auth) {\nheader A b\nmessenger_auth sales\nrespond chat", []string{"chat-eu", "support"}},
		{"in a named route that nothing invokes", "respond chat\n}\n&(auth) {\nmessenger_auth sales", []string{"chat-eu", "sales", "support"}},
		{"in an error route", "respond chat\nhandle_errors {\nmessenger_auth sales\n}", []string{"chat-eu", "support"}},
		{"panel and health verify nothing", "messenger_health /health sales\nmessenger_panel /panel sales", []string{"chat-eu", "sales", "support"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := newGateway(t, nil, "http://")
			g.load(messengers, test.site)
			if got := unused(t, g); !slices.Equal(got, test.want) {
				t.Errorf("warned about %q, want %q", got, test.want)
			}
		})
	}
}

// unused returns the messengers whose warning was logged, each as often as it was.
func unused(t *testing.T, g *gateway) (names []string) {
	t.Helper()
	for line := range strings.Lines(g.logs()) {
		var entry struct{ Level, Logger, Msg, Messenger string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || !strings.Contains(entry.Msg, "no messenger_auth uses") {
			continue
		}
		if entry.Level != "warn" || entry.Logger != "messenger.audit.configuration" {
			t.Errorf("it is at the level %s of %s", entry.Level, entry.Logger)
		}
		names = append(names, entry.Messenger)
	}
	return names
}
