package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A messenger that changes its method still verifies with its shared tokens for a while, and they travel with it.
func TestTokensOfAPreviousMethodAreExported(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	o := g.operator()
	o.put("acme", generated)
	token := o.generate("acme")
	pem := write(t, "acme.pem", publicPEM(rsaKey(0)))
	tr.want(0, "", "", "create", "acme", "--replace", "--identity-key", "identity", "--public-key", pem, "--keep-previous", "24h")
	verdicts := func(g *gateway) {
		t.Helper()
		g.expect("200", "/m/acme/x", sign(token.Token, contact("ann", "a")))
		g.expect("200", "/m/acme/x", sign(rsaKey(0), contact("ann", "a")))
	}
	verdicts(g)
	file := tr.export("--secrets", tr.key)
	o.want(200, "DELETE", "messengers/acme", nil)
	tr.imports(0, "1 created, 0 changed", file, "--replace", "--secrets", tr.key)
	verdicts(g)

	g = tr.at(t, t.TempDir())
	if says := tr.imports(0, "1 created, 0 changed", file, "--merge", "--secrets", tr.key).out; strings.Contains(says, "shared token") {
		t.Errorf("the import says %s", says)
	}
	verdicts(g)
	tr.imports(0, "1 unchanged, 0 conflicts", file, "--merge", "--secrets", tr.key)
	if got, want := lines(t, tr.export("--secrets", tr.key))[0], lines(t, file)[0]; without1(t, got) != without1(t, want) {
		t.Errorf("exported again:\n%s\nwant\n%s", got, want)
	}

	tr.at(t, t.TempDir())
	if says := tr.imports(0, "1 created", file, "--merge").out; !strings.Contains(says, "it has 0 of its 1 shared tokens") {
		t.Errorf("without the key the import says %q", says)
	}
}

// The secret that a site brought is a shared token like others: sealed, it travels. What was revoked stays revoked, and is not accepted
// again. Without --secrets nothing about it is in a file.
func TestImportedSecretsAreExported(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	o := g.operator()
	o.put("acme", generated)
	secrets := map[string]string{"": newSecret(), "of-the-site": newSecret(), "dead": newSecret()}
	made := make(map[string]string)
	for _, kid := range []string{"", "of-the-site", "dead"} {
		body := map[string]any{"secret": secrets[kid], "encoding": "raw"}
		if kid != "" {
			body["kid"] = kid
		}
		var d struct {
			KID string `json:"kid"`
		}
		decode(t, o.want(201, "POST", "messengers/acme/tokens/import", body).body, &d)
		made[kid] = d.KID
	}
	o.want(200, "POST", "messengers/acme/tokens/revoke", map[string]any{"kid": made["dead"]})
	o.makeToken("rotate", "acme", map[string]any{"overlap": "1h"})
	verdicts := func(g *gateway) {
		t.Helper()
		for kid, want := range map[string]string{"": "200", "of-the-site": "200", "dead": "401 signature_invalid"} {
			g.expect(want, "/m/acme/x", sign(secrets[kid], contact("ann", "a")))
		}
		if a, err := g.operator().send("POST", "messengers/acme/tokens/import", map[string]any{"secret": secrets["dead"], "encoding": "raw"}); err != nil || a.status != 409 {
			t.Errorf("the revoked secret again: got %d %s, %v", a.status, a.body, err)
		}
	}
	verdicts(g)
	o.put("bolt", generated)
	only := newSecret()
	o.want(201, "POST", "messengers/bolt/tokens/import", map[string]any{"secret": only, "encoding": "raw"})
	ofThisStore := regexp.MustCompile(`"(revision|made_by)":"[^"]*",`)
	listed := func(g *gateway) string {
		return ofThisStore.ReplaceAllString(g.operator().want(200, "GET", "messengers/acme/tokens", nil).body, "")
	}
	before := listed(g)
	with, without := tr.export("--secrets", tr.key), tr.export()
	if a, b := without1(t, lines(t, with)[0]), without1(t, lines(t, without)[0]); a != b || strings.Contains(b, "of-the-site") {
		t.Errorf("without what is sealed it is\n%s\nwithout --secrets\n%s", a, b)
	}

	g = tr.at(t, t.TempDir())
	tr.imports(0, "2 created, 0 changed", with, "--merge", "--secrets", tr.key)
	verdicts(g)
	g.expect("200", "/m/bolt/x", sign(only, contact("ann", "a")))
	tr.imports(0, "2 unchanged, 0 conflicts", with, "--merge", "--secrets", tr.key)
	if got := listed(g); got != before {
		t.Errorf("the tokens are now\n%s\nthey were\n%s", got, before)
	}
	again := tr.export("--secrets", tr.key)

	g = tr.at(t, t.TempDir()) // from the copy of the copy
	tr.imports(0, "2 created, 0 changed", again, "--merge", "--secrets", tr.key)
	verdicts(g)

	tr.at(t, t.TempDir())
	if says := tr.imports(0, "2 created", without, "--merge").out; strings.Count(says, "it has no shared token") != 1 || !strings.Contains(says, "it has 0 of its 1 shared tokens") {
		t.Errorf("without the secrets the import says %q", says)
	}
}

// What the file of a configured messenger says was revoked does not become valid by an older file, in whatever order they come, and
// whether the revoked token was ever there or not.
func TestOlderFileDoesNotRestoreTokensOfAConfiguredMessenger(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	o := tr.at(t, tr.folder).operator()
	first, second := o.generate("support"), o.generate("support")
	both := tr.export("--secrets", tr.key)
	o.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": second.KID})
	one := tr.export("--secrets", tr.key)
	o.want(200, "POST", "messengers/support/tokens/revoke", map[string]any{"kid": first.KID})
	none := tr.export("--secrets", tr.key)
	g := tr.at(t, t.TempDir()) // revocations of contacts say nothing of tokens
	g.operator().want(200, "POST", "messengers/support/revocations", map[string]any{"identity": "eve", "issued_before": "2100-01-01T00:00:00Z"})
	tr.imports(0, "1 changed", both, "--merge", "--secrets", tr.key)
	g.expect("200", "/support/x", sign(first.Token, contact("ann", "a")))
	g.expect("401 token_revoked", "/support/x", sign(second.Token, contact("eve", "a")))
	g = tr.at(t, t.TempDir()) // without the key first
	tr.imports(0, "1 changed", one, "--merge")
	tr.imports(0, "1 changed", one, "--merge", "--secrets", tr.key)
	g.expect("200", "/support/x", sign(first.Token, contact("ann", "a")))
	for _, tt := range []struct {
		name          string
		files         []string
		first, second string
	}{
		{"the newest first", []string{none, one, both}, "401", "401"},
		{"then the oldest", []string{none, both, none}, "401", "401"},
		{"one, then both", []string{one, both, one, both}, "200", "401"},
		{"both, then one, then both", []string{both, one, both}, "200", "401"},
		{"in their order", []string{both, one, none, both}, "401", "401"},
	} {
		g := tr.at(t, t.TempDir())
		for _, file := range tt.files {
			if ran := tr.run("", "import", "--merge", "--secrets", tr.key, "--input", file); ran.status != 0 && ran.status != 4 {
				t.Errorf("%s: status %d\n%s%s", tt.name, ran.status, ran.out, ran.err)
			}
		}
		for token, want := range map[string]string{first.Token: tt.first, second.Token: tt.second} {
			a := g.get("/support/x", bearer(sign(token, contact("ann", "a"))))
			if accepted := a.status == 200; accepted != (want == "200") {
				t.Errorf("%s: a token got %d, want %s", tt.name, a.status, want)
			}
		}
	}
}

// Whatever a messenger is allowed to have, its line is not too long to be imported, and does not keep others behind it from that.
func TestLargestMessengerCanBeImported(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	o := g.operator()
	var issuers []string
	for i := range 32 {
		issuers = append(issuers, fmt.Sprintf("%q", fmt.Sprint(i)+strings.Repeat("<", 250)))
	}
	o.want(201, "PUT", "messengers/acme", `{"identity_key":"identity","shared_token":{},"issuer":[`+strings.Join(issuers, ",")+`],"audience":[`+strings.Join(issuers, ",")+`]}`)
	o.put("bolt", generated)
	token := o.generate("bolt")
	var b strings.Builder
	for i := range soak(5000) {
		identity := fmt.Sprintf("%05d", i) + strings.Repeat("ж", 125)
		fmt.Fprintf(&b, "{\"identity\":%q,\"contact\":%q}\n", identity, identity)
	}
	tr.want(0, "", b.String(), "revocations", "import", "acme", "--input", "-")
	file := tr.export("--secrets", tr.key)
	long := lines(t, file)[0]
	g = tr.at(t, t.TempDir())
	tr.imports(0, "2 created, 0 changed", file, "--merge", "--secrets", tr.key)
	g.expect("200", "/m/bolt/x", sign(token.Token, contact("ann", "a")))
	if again := lines(t, tr.export("--secrets", tr.key))[0]; len(again) != len(long) {
		t.Errorf("exported again it has %d bytes, want %d", len(again), len(long))
	}
}
