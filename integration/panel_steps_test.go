package integration

import (
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a site owner needs who knows no JWT, and has the pages of the panel alone: the next step is on the page.

// The page says how a key pair is made. The lines are run as they are there, the public key is pasted, and a token of the private
// one is accepted.
func TestPanelSaysHowToMakeAKeyPair(t *testing.T) {
	requireTool(t, "openssl")
	up := newUpstream(t)
	g := startPanel(t, up, "")
	u := g.panelOperator()
	folder := t.TempDir()
	makePair := func(page, name string) (public string, token string) {
		t.Helper()
		found := regexp.MustCompile(`<code id="key-pair">([^<]+)</code>`).FindStringSubmatch(u.get(page).body)
		if found == nil {
			t.Fatalf("%s: no commands: %s", page, u.get(page).text())
		}
		cmd := exec.Command("sh", "-e", "-c", found[1])
		cmd.Dir = folder
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		read := func(name string) []byte {
			text, err := os.ReadFile(filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		block, _ := pem.Decode(read(name + ".key.pem"))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return string(read(name + ".pub.pem")), sign(key, valid("mark"))
	}
	public, token := makePair("?page=new", "chat")
	created := u.post("?page=new", fields("name", "my-shop", "method", "public_key", "key", public))
	if created.status != 303 {
		t.Fatalf("%d %s", created.status, created.text())
	}
	next := u.get(created.header.Get("Location"))
	next.says(t, 200, "The messenger was created. The page Embed has the code for your site, and Token test says whether a token is valid.")
	if !strings.Contains(next.body, `<a href="?messenger=my-shop&amp;page=embed">Embed</a> has`) {
		t.Errorf("the next step is not a link: %s", next.body)
	}
	g.passes(t, up, "my-shop", token, "mark")

	// The second pair does not overwrite the first, which the site still signs with. In the steps of the page Keys no contact is refused.
	u.get("?messenger=my-shop&page=keys").says(t, 200, "Replace a key", "Paste the new public key there into Another public key", "expire after 10 minutes.")
	second, newToken := makePair("?messenger=my-shop", "chat-new")
	form := u.get("?messenger=my-shop").browserForm(t)
	form["key"] = []string{public, second}
	if a := u.post("?messenger=my-shop", form); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	u.get("?messenger=my-shop&page=keys").says(t, 200, "Public key 1 RS256", "Public key 2 RS256")
	g.passes(t, up, "my-shop", token, "mark")
	g.passes(t, up, "my-shop", newToken, "mark")
	form = u.get("?messenger=my-shop").browserForm(t)
	form["key"] = []string{"", second}
	u.confirmed("my-shop", form)
	g.passes(t, up, "my-shop", newToken, "mark")
	if a := g.get("/my-shop/", bearer(token)); a.status != 401 {
		t.Errorf("a token of the removed key: %d", a.status)
	}
}

// The only key is replaced in its field. The page asks, in words about keys, and a time is enough as an answer: nothing ends, so that
// nothing has to be confirmed.
func TestPanelKeepsAKeyThatIsReplaced(t *testing.T) {
	up := newUpstream(t)
	g := startPanel(t, up, "")
	u := g.panelOperator()
	u.post("?page=new", fields("name", "my-shop", "method", "public_key", "key", string(publicPEM(rsaKey(0)))))
	form := u.get("?messenger=my-shop").browserForm(t)
	form["key"] = []string{string(publicPEM(rsaKey(1)))}
	asked := u.post("?messenger=my-shop", form)
	asked.says(t, 422, "The keys that are replaced stay valid for", "So that no contact is refused, choose a time")
	form.Set("keep_previous", "24h")
	if a := u.post("?messenger=my-shop", form); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	page := u.get("?messenger=my-shop&page=keys")
	page.says(t, 200, "Previous keys Tokens of the previous keys are accepted until", "End them now", "Public key RS256", "RS256 Previous")
	if text := page.text(); strings.Contains(text, "until in ") || strings.Count(text, "Previous Length") != 1 {
		t.Errorf("the page says %s", text)
	}
	for _, key := range []int{0, 1} {
		g.passes(t, up, "my-shop", sign(rsaKey(key), valid("mark")), "mark")
	}
	// Another method is not called a key.
	form = u.get("?messenger=my-shop").browserForm(t)
	form.Set("method", "shared_token")
	u.post("?messenger=my-shop", form).says(t, 422, "The method that is replaced stays valid for")
}

// A contact cannot chat: the pages say why in the words of the page Security, once, and what to look at next.
func TestPanelSaysWhyAContactCannotChat(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.post("?page=new", fields("name", "empty"))
	u.get("?done=created&messenger=empty&page=keys").says(t, 200, "The messenger was created. Generate its shared token now.", "Until there is one, no contact can chat")
	token := u.create("acme")
	test := func(c claims) answer {
		return u.post("?messenger=acme&page=test", url.Values{"token": {sign(token, c)}})
	}

	test(claims{"sub": "mark", "exp": 4e9}).says(t, 200, "Sign the identity under the name of “Contact identity key”, or configure “Contact identity key” with the name of that claim.")
	expired := test(claims{"identity": "mark", "exp": 1})
	expired.says(t, 200, "The token has expired", "it may have expired since.")
	if before, _, _ := strings.Cut(expired.text(), "What the codes mean"); strings.Contains(before, `The token's exp has passed.`) {
		t.Error("the page says twice what is wrong")
	}
	test(valid("mark")).says(t, 200, "This token is accepted", "If the contact cannot chat although this token is accepted, their browser may send another one, or none")
	expired.says(t, 200, "What the codes mean", "token_missing The request carries no token", "token_expired The token's exp has passed.",
		"origin_not_allowed The page that caused", "too_many_connections This contact has as many")

	// The token has leaked. It has no ID: the contact is filled in, whose tokens are to be revoked.
	leaked := u.post("?messenger=acme&page=revocations", url.Values{"what": {"token"}, "action": {"look"}, "token": {sign(token, valid("mark"))}})
	leaked.says(t, 422, "Revoke all tokens of its contact instead. The identity of this contact is in the field Contact identity.")
	if !strings.Contains(leaked.body, `name="contact" value="mark"`) {
		t.Errorf("the contact is not filled in: %s", leaked.body)
	}
	u.revoke("acme", url.Values{"what": {"contact"}, "contact": {"mark"}}, "Revoke the tokens of mark")
	refused := test(valid("mark"))
	refused.says(t, 200, "This token is refused", "The page Revocations lists what is revoked, and can undo it.")
	u.get("?messenger=acme&page=revocations").says(t, 200, "Applies until it is undone")
}
