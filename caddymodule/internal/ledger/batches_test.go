package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A group of facts fits into one write, however long their texts and the names of those who made them are.
func TestEveryGroupOfFactsFitsIntoOneWrite(t *testing.T) {
	now := time.Date(2026, 11, 27, 2, 2, 1, 123456789, time.UTC)
	for _, text := range []string{"", strings.Repeat("a", 255), strings.Repeat("<", 42), strings.Repeat("<", 85), strings.Repeat("<", 255), strings.Repeat(`"`, 128)} {
		v := revocation.Revocation{Identity: text, Contact: text, Before: &now, Until: &now, Created: now, Skew: 1<<63 - 1, Issued: &now, Exact: true, Covers: true}
		facts := make([]*Fact, 600)
		for i := range facts {
			facts[i] = NewFact(factRevoke, now)
			facts[i].Revocation, facts[i].By = &v, strings.Repeat("<", 200) // as many bytes as the registry stores
		}
		written := 0
		for _, group := range Batches(facts) {
			texts, err := Encode(group)
			if err != nil {
				t.Fatal(err)
			}
			size := 0
			for _, text := range texts {
				size += len(text)
			}
			if size > vault.MaxValue/2 {
				t.Errorf("with texts of %d bytes, %d facts have %d bytes", len(text), len(group), size)
			}
			written += len(group)
		}
		if written != len(facts) {
			t.Errorf("%d of %d facts are in a group", written, len(facts))
		}
	}
}

// Nodes of all versions make the same batches of an old record: they write them to the same keys.
func TestOldRecordsGiveTheSameBatches(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	end := at.Add(time.Hour)
	r := oldRecord{Created: at, Changed: at.Add(time.Minute), Settings: json.RawMessage(`{"identity_key":"sub","audience":["` + strings.Repeat("a", 200<<10) + `"]}`)}
	for i := range 700 {
		r.Revocations = append(r.Revocations, revocation.Revocation{Identity: fmt.Sprintf("<%d>%s", i, strings.Repeat("&", i%200)), Before: &at, Created: at})
	}
	r.Tokens = append(r.Tokens, struct {
		KeyID   string     `json:"kid"`
		Token   string     `json:"token"`
		Created time.Time  `json:"created"`
		End     *time.Time `json:"end"`
	}{"one", "a shared token", at, &end})
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]string{KindStored: "5 batches, rqmztgoakswyj7h7e7mfacazw72g6v6b", KindRing: "4 batches, qvfmf44n7mjdakvd6ofioshc3diqmi5j"} {
		batches, _, err := New("sales", kind).factsOfRecord(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d batches, %s", len(batches), keyHash(fmt.Sprintf("%s", batches))); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
	}
}
