package ledger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A newer gateway on the same storage gives tokens a label that is longer than this version knows, and members that it does not know
// at all: the token verifies, and what this node writes back after a loss has all of it.
func TestUnknownMembersOfNewerVersionsKeepTokensValid(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	j := New("support", KindRing)
	_, made, facts, err := j.ChangeRing(GenerateToken(), now)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := Encode(facts)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(texts[0], &members); err != nil {
		t.Fatal(err)
	}
	long := string(make([]rune, 3*MaxLabel))
	members["label"], members["labels_by_language"] = long, map[string]any{"de": "Laden"}
	newer, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	key := vault.Key{Folder: j.Folder(ConfigIncarnation), Writer: "w", Number: 1}
	if err := j.Add(key, []json.RawMessage{newer}, now); err != nil || j.Damage() != nil {
		t.Fatalf("got %v, %v", err, j.Damage())
	}
	ring := j.ActiveTokens(now)
	if len(ring) != 1 || ring[0].KeyID != made.KeyID || string(ring[0].Secret) != made.Token || ring[0].Label != long {
		t.Errorf("the token is not as it was made: %d tokens", len(ring))
	}
	j.compare(nil, 1, now)
	if lost := j.Lost()[key]; len(lost) != 1 || string(lost[0]) != string(newer) {
		t.Errorf("what would be written back is %s", lost)
	}
}

// A label is stored with every way to make a token, is a member that is absent without one, and does not change what the token is.
func TestLabelsAreStoredWithTheTokens(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, change := range map[string]RingChange{
		"generate": GenerateToken(), "rotate": RotateTokens(time.Hour), "reset": ResetTokens(false), "import": ImportToken([]byte("0123456789abcdef0123456789abcdeX"), ""),
	} {
		j := New("support", KindRing)
		add := func(number uint64, change RingChange) *NewToken {
			t.Helper()
			_, made, facts, err := j.ChangeRing(change, now)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			texts, err := Encode(facts)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Add(vault.Key{Folder: j.Folder(ConfigIncarnation), Writer: "w", Number: number}, texts, now); err != nil {
				t.Fatal(err)
			}
			return made
		}
		add(1, GenerateToken())
		labelled, err := change.Labelled("web shop")
		if err != nil {
			t.Fatal(err)
		}
		made := add(2, labelled)
		ring := j.ActiveTokens(now)
		if last := ring[len(ring)-1]; made.Label != "web shop" || last.Label != "web shop" || last.KeyID != made.KeyID {
			t.Errorf("%s: the token has the label %q", name, last.Label)
		}
		if first := ring[0]; len(ring) > 1 && first.Label != "" {
			t.Errorf("%s: another token has the label %q", name, first.Label)
		}
	}
}
