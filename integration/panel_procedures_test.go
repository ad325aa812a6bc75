package integration

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The procedures of the widget's documentation, "Configure JWT Validation using Provided Public Key", "… JWKS" and "… Shared Token",
// as a site owner follows them with that document beside the page: every control is found by the words that the document has.

// tabTo presses the tab key until the control with this name has the focus: its label, or its own text.
func (p *panelTab) tabTo(name string) {
	p.t.Helper()
	const focused = "(e => (e.labels?.[0]?.firstChild ?? e).textContent.trim())(document.activeElement)"
	for range 60 {
		browse(p.t, p.ctx, chromedp.KeyEvent(kb.Tab))
		if evaluate[string](p.t, p.ctx, focused) == name {
			return
		}
	}
	p.t.Fatalf("the tab key does not lead to %q:\n%s", name, pageText(p.ctx))
}

// types presses keys, which go to what has the focus.
func (p *panelTab) types(keys string) {
	p.t.Helper()
	browse(p.t, p.ctx, chromedp.KeyEvent(keys))
}

// openSecurity opens a messenger from the list, which shows its page Security.
func (p *panelTab) openSecurity(messenger string) {
	p.t.Helper()
	p.open("")
	browse(p.t, p.ctx, chromedp.Click(`//a[*[normalize-space(.)="`+messenger+`"]]`))
	browse(p.t, p.ctx, chromedp.WaitVisible(`//nav//a[@aria-current="page"][normalize-space(.)="Security"]`))
	browse(p.t, p.ctx, chromedp.WaitVisible(`//h2[normalize-space(.)="JSON Web Token (JWT) validation"]`))
}

// startProcedures runs a gateway with the messengers of three site owners, as the operator has created them: none has a key.
func startProcedures(t *testing.T, up *upstream) (*gateway, *keyServer) {
	t.Helper()
	keys := newKeyServer(t, publicJWK(rsaKey(1), "login-1"))
	g := startPanel(t, up, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	u := g.panelOperator()
	for _, name := range []string{"by-key", "by-jwks", "by-token"} {
		if a := u.post("?page=new", fields("name", name, "method", map[bool]string{true: "public_key", false: "shared_token"}[name == "by-token"], "key", string(publicPEM(rsaKey(2))))); a.status != 303 {
			t.Fatalf("%s: %d %s", name, a.status, a.text())
		}
	}
	return g, keys
}

func TestProcedurePublicKey(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g, _ := startProcedures(t, up)
	p := openPanel(t, g)
	p.openSecurity("by-key")
	p.choose(p.named("Public key", 0))
	p.sees("Highest security: the private key never leaves your site.")
	p.paste(p.named("Public key", 1), string(publicPEM(rsaKey(0))))
	p.fill(p.named("Contact identity key", 0), "customer_id")
	p.shoot(pictures(t), "procedure-public-key")
	p.click("Save settings")
	p.sees("The settings were saved, and are active within seconds.", "Key active")
	token := sign(rsaKey(0), claims{"customer_id": "mark", "exp": good("")["exp"]})
	g.passes(t, up, "by-key", token, "mark")
	p.click("Token test")
	p.paste(p.named("Token", 0), token)
	p.click("Test token")
	p.sees("This token is accepted", "X-Contact-Identity", "mark")
}

// With the keyboard alone.
func TestProcedureJWKS(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g, keys := startProcedures(t, up)
	p := openPanel(t, g)
	browse(t, p.ctx, chromedp.WaitReady(chromedp.CSS("main")))
	for range 60 {
		p.types(kb.Tab)
		if evaluate[bool](t, p.ctx, "document.activeElement.querySelector('.item-name')?.textContent === 'by-jwks'") {
			break
		}
	}
	p.types(kb.Enter)
	p.sees("JSON Web Token (JWT) validation")
	p.tabTo("Contact identity key")
	p.types("customer_id") // what is in a field is selected when the tab key leads there
	p.tabTo("Shared token")
	p.types(kb.ArrowUp)
	if !evaluate[bool](t, p.ctx, "document.activeElement.checked && document.activeElement.labels[0].textContent === 'JWKS'") {
		t.Fatal("the arrow key does not choose JWKS")
	}
	p.tabTo("URL of the key set")
	p.types(keys.url)
	p.shoot(pictures(t), "procedure-jwks")
	p.types(kb.Enter) // sends the form, as the button Save settings does
	p.sees("The settings were saved, and are active within seconds.")
	g.passes(t, up, "by-jwks", signWithKID(rsaKey(1), "login-1", claims{"customer_id": "mark", "exp": good("")["exp"]}), "mark")
	if a := g.get("/by-jwks/", bearer(signWithKID(rsaKey(1), "login-1", good("mark")))); a.status != 401 || a.code(t) != "identity_missing" {
		t.Errorf("a token with the former contact identity key: %d %s", a.status, a.body)
	}
}

// In a browser that runs no scripts.
func TestProcedureSharedToken(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g, _ := startProcedures(t, up)
	p := openPanel(t, g)
	devtools(t, p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.openSecurity("by-token")
	p.choose(p.named("Shared token", 0))
	p.sees("Simplest; anyone who has it can sign.")
	identity := chromedp.ID(p.named("Contact identity key", 0))
	browse(t, p.ctx, chromedp.Clear(identity), chromedp.SendKeys(identity, "customer_id"))
	p.click("Save settings")
	p.sees("What this change makes invalid")
	p.choose(p.named("Save anyway. What is listed here is refused from then on.", 0))
	p.click("Save settings")
	p.sees("The settings were saved, and are active within seconds.", "No key")
	p.click("Generate a shared token")
	p.click("Generate shared token")
	browse(t, p.ctx, chromedp.Click(`//summary[*[normalize-space(.)="Show the token"]]`))
	token, err := chromedp.Run(p.ctx, chromedp.Text(chromedp.ID("secret")))
	if err != nil {
		t.Fatal(err)
	}
	search.secret(token)
	g.passes(t, up, "by-token", sign(strings.TrimSpace(token), claims{"customer_id": "mark", "exp": good("")["exp"]}), "mark")
}
