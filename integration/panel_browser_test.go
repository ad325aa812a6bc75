package integration

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A site owner's first afternoon: a messenger, a shared token, the first contact, a change of tokens, a broken token.
func TestBrowserSharedToken(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g := startPanel(t, up, "")
	p := openPanel(t, g, wholeChromium)
	p.mayReadClipboard()

	p.sees("No messengers yet")
	p.click("New messenger")
	p.fill(p.named("Name", 0), "acme")
	p.choose(p.named("Shared token", 0))
	p.click("Create messenger")
	p.sees("The messenger was created.", "There is no shared token yet.")
	p.click("Generate shared token")
	p.sees("It is shown only this once.")

	// It is masked until asked for, and leaving asks back until it was copied.
	if visible := evaluate[bool](t, p.ctx, "document.getElementById('secret').checkVisibility()"); visible {
		t.Errorf("the token is shown before anybody asked for it")
	}
	p.answer(false)
	p.click("I have stored it")
	eventually(t, "the browser asks whether to leave", func() bool { return p.questions() == 1 })
	p.click("Copy token")
	p.sees("Copied. Paste it where your site reads its secrets. The clipboard will be emptied in 60 seconds, or when you leave this page, if the browser allows it.")
	first := p.clipboard()
	if !strings.HasPrefix(first, "mst_") {
		t.Fatalf("the clipboard has no shared token")
	}
	search.secret(first)
	g.passes(t, up, "acme", sign(first, valid("mark")), "mark")
	p.sees("The clipboard was emptied.")
	if left := p.clipboard(); left != "" {
		t.Errorf("the clipboard was not emptied")
	}
	p.clickOn(`//*[@id="secret-reveal"]//summary`)
	if shown := evaluate[string](t, p.ctx, "document.getElementById('secret').innerText"); shown != first {
		t.Errorf("another token is shown than was copied")
	}

	// It is in no address, no storage and no cache, and the way back does not bring it again.
	kept := evaluate[string](t, p.ctx, `(async () => location.href + document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) +
		JSON.stringify(history.state) + JSON.stringify(await caches.keys()))()`)
	if strings.Contains(kept, first) || !strings.HasSuffix(kept, "page=keys{}{}null[]") {
		t.Errorf("the browser keeps something of the page: %s", strings.ReplaceAll(kept, first, "the token"))
	}
	p.click("Copy token")
	p.sees("Copied.")
	p.click("I have stored it")
	p.sees("Let your site sign with the newest one.", "Active")
	if p.questions() != 0 {
		t.Errorf("the browser asks whether to leave although the token was copied")
	}
	if left := p.clipboard(); strings.TrimSpace(left) != "" {
		t.Errorf("the clipboard was not emptied when the page was left")
	}
	evaluate[chromedp.Void](t, p.ctx, "void setTimeout(() => history.back())") // the answer comes before the page is left
	eventually(t, "the way back leads to the page of the token", func() bool {
		entries, err := chromedp.Run(p.ctx, chromedp.NavigationEntries())
		return err == nil && entries.CurrentIndex < int64(len(entries.Entries)-1)
	})
	p.sees() // it may still be loading
	if page := evaluate[string](t, p.ctx, "document.documentElement.outerHTML"); strings.Contains(page, first) {
		t.Errorf("the way back shows the token again")
	}

	// Rotate: both are good.
	p.open("?messenger=acme&page=keys")
	p.choose("rotate-confirm")
	p.click("Rotate")
	p.sees("The other tokens stay valid for 24 hours.")
	p.click("Copy token")
	p.sees("Copied.")
	second := p.clipboard()
	search.secret(second)
	if second == first {
		t.Errorf("rotate made no new token")
	}
	evaluate[chromedp.Void](t, p.ctx, "location.reload()") // sends the form once more
	p.sees("Nothing was changed now", "Expiring", "Active")
	if page := evaluate[string](t, p.ctx, "document.documentElement.outerHTML"); strings.Contains(page, "mst_") {
		t.Errorf("loading the page again shows a token")
	}
	g.passes(t, up, "acme", sign(first, valid("mark")), "mark")
	g.passes(t, up, "acme", sign(second, valid("eve")), "eve")

	// The way to a broken token's reason.
	p.click("Token test")
	token := sign(second, valid("mark"))
	for _, broken := range []struct{ token, reason string }{
		{token[:strings.LastIndexByte(token, '.')], "The signature is missing: only header and payload were copied."},
		{sign(second, claims{"identity": "mark", "exp": 1}), "The token has expired: exp passed"},
		{sign(rsaKey(1), valid("mark")), `The header's alg is not the algorithm of this messenger's keys: it is alg "RS256"; this messenger's method uses HS256.`},
		{sign(second+"\n", valid("mark")), "The site signs with the secret followed by a line break or blank."},
		{sign(second, claims{"sub": "mark", "exp": 4e9}), "The token does not have the identity key"},
		{"Bearer " + token, "The text begins with a header's name or a scheme."},
		{second, "This is a shared token, the secret itself, and not a token for a contact."},
	} {
		p.paste("token", broken.token)
		p.click("Test token")
		p.sees("This token is refused", broken.reason)
	}
	p.paste("token", token)
	p.click("Test token")
	p.sees("This token is accepted", "X-Contact-Identity", "mark")
}

// The same with a public key that was pasted, and with the URL of a key set.
func TestBrowserPublicKeyAndJWKS(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	keys := newKeyServer(t, publicJWK(rsaKey(1), "login-1"), jwk{"kty": "oct", "k": "AAAA", "kid": "left-out"})
	g := startPanel(t, up, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	p := openPanel(t, g, anyChromium)

	p.click("New messenger")
	p.fill(p.named("Name", 0), "shop")
	p.fill(p.named("Contact identity key", 0), "identity")
	p.choose(p.named("Public key", 0))
	p.sees("Highest security: the private key never leaves your site.", "Defining it is mandatory: the same name as in your token")
	p.paste(p.named("Public key", 1), string(publicPEM(rsaKey(0))))
	p.click("Key ID and algorithm")
	p.fill(p.named("Key ID", 0), "2026")
	p.click("Create messenger")
	p.sees("The messenger was created.", "Key active")
	g.passes(t, up, "shop", signWithKID(rsaKey(0), "2026", valid("mark")), "mark")
	p.click("Security")
	p.sees("JSON Web Token (JWT) validation")

	// A contact must leave. The keyboard alone is enough.
	p.open("?messenger=shop&page=revocations")
	p.press("contact", "zoe"+kb.Enter)
	p.sees("Revoke the tokens of zoe?")
	p.press("Revoke", kb.Enter)
	p.sees("The tokens are revoked, and refused from now on. Connections closed on this gateway: 0.", "Contact zoe")
	if a := g.get("/shop/", bearer(signWithKID(rsaKey(0), "2026", valid("zoe")))); a.status != 401 {
		t.Errorf("the token of the contact is answered with %d", a.status)
	}

	p.click("Token test")
	p.paste("token", signWithKID(rsaKey(2), "2026", valid("mark")))
	p.click("Test token")
	p.sees("This token is refused", "The token was signed with another key, or changed after it was signed.")

	p.open("?page=new")
	p.fill(p.named("Name", 0), "login")
	p.choose(p.named("JWKS", 0))
	browse(t, p.ctx, chromedp.Poll[chromedp.Void](`document.getElementById("key-0").offsetParent === null`)) // the form shows the part of one method
	p.fill(p.named("URL of the key set", 0), keys.url)
	p.click("More conditions")
	p.fill(p.named("Audience", 0), "chat")
	p.click("Create messenger")
	p.sees("The messenger was created.")
	token := forChat("mark")
	token["exp"] = 4e9
	g.passes(t, up, "login", signWithKID(rsaKey(1), "login-1", token), "mark")
	p.click("Keys")
	p.sees("login-1", "Not used", "left-out")
	keys.publish(publicJWK(rsaKey(1), "login-1"), publicJWK(rsaKey(2), "login-2"))
	p.click("Fetch now")
	p.sees("The key set was fetched.", "login-2")
	p.click("Token test")
	p.paste("token", signWithKID(rsaKey(0), "2026", token))
	p.click("Test token")
	p.sees("This token is refused", `The token's kid is not that of an active key: it is "2026"; the messenger's keys have ["login-1" "login-2"].`)
}

// A site owner's browser runs no scripts. All there is to do can be done, except copying with a button.
func TestBrowserWithoutScripts(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g := startPanel(t, up, "")
	p := openPanel(t, g, anyChromium)
	devtools(t, p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.open("?page=new")
	browse(t, p.ctx, chromedp.SendKeys(chromedp.ID("name"), "acme"))
	p.choose("method-shared_token")
	p.click("Create messenger")
	p.click("Generate shared token")
	p.clickOn(`//*[@id="secret-reveal"]//summary`)
	token, err := chromedp.Run(p.ctx, chromedp.Text(chromedp.ID("secret")))
	if err != nil {
		t.Fatal(err)
	}
	search.secret(token)
	browse(t, p.ctx, chromedp.WaitNotVisible(chromedp.CSS("[data-copy]")))
	g.passes(t, up, "acme", sign(token, valid("mark")), "mark")
	p.click("I have stored it")
	p.choose("rotate-confirm")
	p.click("Rotate")
	browse(t, p.ctx, chromedp.WaitReady(chromedp.ID("secret-reveal")))
	p.click("I have stored it")
	p.click("Token test")
	browse(t, p.ctx, chromedp.SendKeys(chromedp.ID("token"), sign(token, claims{"identity": "mark", "exp": 1})))
	p.click("Test token")
	browse(t, p.ctx, chromedp.WaitVisible(`//*[contains(., "This token is refused")]`))
}
