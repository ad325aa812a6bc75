package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A storage of before the facts is carried over whole by two nodes that start at once: tokens, their ends and last uses, every
// revocation, those that were undone and the merged ones, settings. After a restart it is the same.
func TestOldRecordsAreMigratedCompletely(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, kind := range []string{"plain", "sealed", onRedis} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newOldStore(t, kind)
			a, b := s.node(t), s.node(t)
			var both sync.WaitGroup
			for _, n := range []*node{a, b} {
				both.Go(func() {
					if err := n.tryRun(); err != nil {
						text, _ := os.ReadFile(n.gateway.log)
						t.Errorf("%v\n%s", err, text)
					}
				})
			}
			both.Wait()
			s.check(t, "at first", a)
			s.check(t, "at first, on the other node", b)
			for _, name := range []string{"acme", "rsa", "reset"} {
				left, right := a.want(200, "GET", "messengers/"+name, nil), b.want(200, "GET", "messengers/"+name, nil)
				if left.header.Get("ETag") != right.header.Get("ETag") {
					t.Errorf("%s: the nodes tell of different revisions: %s %s", name, left.header.Get("ETag"), right.header.Get("ETag"))
				}
			}
			a.kill()
			b.kill()
			a.run()
			s.check(t, "after a restart", a)
			for line := range strings.Lines(a.logs()) {
				if strings.Contains(line, `"level":"error"`) && !strings.Contains(line, "no configuration is loaded") { // which a test is told that asks too early
					t.Error(line)
				}
			}
		})
	}
}

// What was carried over can be changed like anything else: revocations are undone, a messenger is deleted and made again, and
// nothing of the first one comes back, also where an old node has not been stopped.
func TestMigratedMessengersCanBeChanged(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newOldStore(t, "plain")
	record, err := os.ReadFile(filepath.Join(s.dir, "messenger", "rsa", "stored"))
	if err != nil {
		t.Fatal(err)
	}
	n := s.node(t)
	n.run()
	s.check(t, "at first", n)
	var acme, rsa []string // tokens, the revoked one last
	for _, r := range s.Requests {
		switch {
		case r.Path == "/m/acme/x" && r.Want == "401 token_revoked" && acme == nil:
			acme = append(acme, r.Token)
		case r.Path == "/m/rsa/x" && r.Want != "401 issuer_not_allowed":
			rsa = append(rsa, r.Token)
		}
	}
	n.want(200, "DELETE", "messengers/acme/revocations", map[string]any{"jti": "one"})
	n.expect("200", "/m/acme/x", acme[0])
	if said := n.refused(409, "DELETE", "messengers/support/revocations", map[string]any{"identity": "zoe"}); !strings.Contains(said, "replaced others") {
		t.Errorf("undoing merged logouts: %s", said)
	}
	n.want(200, "DELETE", "messengers/rsa", nil)
	n.expect("404 messenger_unknown", "/m/rsa/x", rsa[0])

	// An old node that was not stopped writes what it has in memory.
	old := filepath.Join(s.dir, "messenger", "rsa", "stored")
	if err := os.WriteFile(old, record, 0o600); err != nil {
		t.Fatal(err)
	}
	s.change(t, "acme/stored", func(text string) string { return strings.Replace(text, `"revocations":[`, `"revocations":[ `, 1) })
	n.kill()
	n.run()
	n.expect("404 messenger_unknown", "/m/rsa/x", rsa[0])
	n.expect("200", "/m/acme/x", acme[0])
	patiently(t, "the log says that an old node has written", func() bool {
		return strings.Contains(n.logs(), "an older version of the gateway has changed this messenger")
	})
	if got := n.want(201, "PUT", "messengers/rsa", s.Settings["rsa"]["settings"]); got.status != 201 {
		t.Errorf("creating it again: %d", got.status)
	}
	for _, token := range rsa {
		n.expect("200", "/m/rsa/x", token)
	}
	n.kill()
	n.run()
	for _, token := range rsa {
		n.expect("200", "/m/rsa/x", token)
	}
}

// Tokens that were about to expire go on until then, and a key set that was fetched before serves while its server is away.
func TestExpiringTokensAndKeySetsAreMigrated(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newOldStore(t, "plain")
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	s.change(t, "support/ring", func(text string) string {
		return regexp.MustCompile(`"end":"[^"]*"`).ReplaceAllString(text, `"end":"`+later.Format(time.RFC3339)+`"`)
	})
	s.change(t, "_keysets/30d2df3423d7b63da85049c2e02e6543", func(text string) string {
		return regexp.MustCompile(`"fetched":"[^"]*"`).ReplaceAllString(text, `"fetched":"`+time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)+`"`)
	})
	var record struct{ Tokens []sharedToken }
	text, err := os.ReadFile(filepath.Join(s.dir, "messenger", "support", "ring"))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, string(text), &record)
	n := s.node(t)
	n.run()
	if len(record.Tokens) != 3 {
		t.Fatalf("the record has %d tokens", len(record.Tokens))
	}
	ends := 0
	for _, token := range n.ring("support").Tokens {
		if token.End != nil && token.End.Equal(later) {
			ends++
		}
	}
	if ends != 2 {
		t.Errorf("%d tokens expire, want 2", ends)
	}
	for _, token := range record.Tokens {
		search.secret(token.Token)
		n.expect("200", "/", token.signed())
	}
	for _, r := range s.Requests {
		if r.Path == "/fetched" {
			n.expect(r.Want, r.Path, r.Token)
		}
	}
}

// A node dies while it carries over a large record, or cannot write at all. Nothing of the record is missing, for it and for
// those that come later.
func TestNodeCrashDuringMigrationLosesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newOldStore(t, "plain")
	const many = 700
	s.change(t, "support/ring", func(text string) string {
		var added strings.Builder
		for i := range many {
			fmt.Fprintf(&added, `{"jti":"many%d","created":"2026-11-26T05:11:39Z"},`, i)
		}
		return strings.Replace(text, `"revocations":[`, `"revocations":[`+added.String(), 1)
	})
	var record struct{ Tokens []sharedToken }
	text, err := os.ReadFile(filepath.Join(s.dir, "messenger", "support", "ring"))
	if err != nil {
		t.Fatal(err)
	}
	decode(t, string(text), &record)
	current := record.Tokens[2].Token
	search.secret(current)
	complete := func(when string, n *node) {
		t.Helper()
		for _, i := range []int{0, many / 3, many / 2, many - 1} {
			if got := n.verdict("/", sign(current, with(valid("ann"), claims{"jti": fmt.Sprintf("many%d", i)}))); got != "401 token_revoked" {
				t.Errorf("%s: the revoked token %d got %s", when, i, got)
			}
		}
		n.expect("200", "/", sign(current, valid("ann")))
	}
	facts := filepath.Join(s.dir, "messenger", "support", "config", "facts")
	// A file where the folder of the facts should be lets every write of them fail.
	if err := os.MkdirAll(filepath.Dir(facts), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(facts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := s.node(t)
	n.run()
	complete("where it cannot be written", n)
	n.kill()
	if err := os.Remove(facts); err != nil {
		t.Fatal(err)
	}
	n.run()
	complete("at first", n)
	n.want(200, "POST", "messengers/support/revocations", map[string]any{"jti": "later"})
	patiently(t, "it is carried over", func() bool { return isFile(filepath.Join(facts, "oldrecord-1")) })
	n.kill()
	for last := 1; isFile(filepath.Join(facts, fmt.Sprintf("oldrecord-%d", last))); last++ { // it died before it had written these
		for i := 1; i <= last; i++ {
			if err := os.Remove(filepath.Join(facts, fmt.Sprintf("oldrecord-%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		n.run()
		complete(fmt.Sprintf("without the first %d batches", last), n)
		if got := n.verdict("/", sign(current, with(valid("ann"), claims{"jti": "later"}))); got != "401 token_revoked" {
			t.Errorf("what was revoked since got %s", got)
		}
		n.want(200, "GET", "messengers/support/revocations", nil) // which reads, and carries over what is missing
		n.kill()
		for i := 1; i <= last; i++ {
			if !isFile(filepath.Join(facts, fmt.Sprintf("oldrecord-%d", i))) {
				t.Fatalf("batch %d of %d was not written again", i, last)
			}
		}
	}
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
