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
	p.clickOn(`//a[*[normalize-space(.)="` + messenger + `"]]`)
	browse(p.t, p.ctx, chromedp.WaitVisible(`//nav//a[@aria-current="page"][normalize-space(.)="Security"]`))
	browse(p.t, p.ctx, chromedp.WaitVisible(`//h2[normalize-space(.)="JSON Web Token (JWT) validation"]`))
}

// The operator has created the messengers of three site owners. They set them up with a mouse, with the keyboard alone, and in a
// browser that runs no scripts.
func TestBrowserProcedures(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	keys := newKeyServer(t, publicJWK(rsaKey(1), "login-1"))
	g := startPanel(t, up, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	u := g.panelOperator()
	for _, name := range []string{"by-key", "by-jwks", "by-token"} {
		if a := u.post("?page=new", fields("name", name, "method", map[bool]string{true: "public_key", false: "shared_token"}[name == "by-token"], "key", string(publicPEM(rsaKey(2))))); a.status != 303 {
			t.Fatalf("%s: %d %s", name, a.status, a.text())
		}
	}
	p := openPanel(t, g, anyChromium)
	t.Run("Public Key", func(t *testing.T) { p.t = t; p.configurePublicKey(g, up) })
	t.Run("JWKS, with the keyboard", func(t *testing.T) { p.t = t; p.configureJWKS(g, up, keys.url) })
	t.Run("Shared Token, without scripts", func(t *testing.T) { p.t = t; p.configureSharedToken(g, up) })
}

func (p *panelTab) configurePublicKey(g *gateway, up *upstream) {
	p.openSecurity("by-key")
	p.choose(p.named("Public key", 0))
	p.sees("Highest security: the private key never leaves your site.")
	p.paste(p.named("Public key", 1), string(publicPEM(rsaKey(0))))
	p.fill(p.named("Contact identity key", 0), "customer_id")
	p.shoot(pictures(p.t), "procedure-public-key")
	p.click("Save settings")
	p.sees("The settings were saved, and are active within seconds.", "Key active")
	token := sign(rsaKey(0), claims{"customer_id": "mark", "exp": valid("")["exp"]})
	g.passes(p.t, up, "by-key", token, "mark")
	p.click("Token test")
	p.paste(p.named("Token", 0), token)
	p.click("Test token")
	p.sees("This token is accepted", "X-Contact-Identity", "mark")
}

func (p *panelTab) configureJWKS(g *gateway, up *upstream, url string) {
	p.open("")
	for range 60 {
		p.types(kb.Tab)
		if evaluate[bool](p.t, p.ctx, "document.activeElement.querySelector('.item-name')?.textContent === 'by-jwks'") {
			break
		}
	}
	p.types(kb.Enter)
	p.sees("JSON Web Token (JWT) validation")
	p.tabTo("Contact identity key")
	p.types("customer_id") // what is in a field is selected when the tab key leads there
	p.tabTo("Shared token")
	p.types(kb.ArrowUp)
	if !evaluate[bool](p.t, p.ctx, "document.activeElement.checked && document.activeElement.labels[0].textContent === 'JWKS'") {
		p.t.Fatal("the arrow key does not choose JWKS")
	}
	p.tabTo("URL of the key set")
	p.types(url)
	p.shoot(pictures(p.t), "procedure-jwks")
	p.types(kb.Enter) // sends the form, as the button Save settings does
	p.sees("The settings were saved, and are active within seconds.")
	g.passes(p.t, up, "by-jwks", signWithKID(rsaKey(1), "login-1", claims{"customer_id": "mark", "exp": valid("")["exp"]}), "mark")
	if a := g.get("/by-jwks/", bearer(signWithKID(rsaKey(1), "login-1", valid("mark")))); a.status != 401 || a.code(p.t) != "identity_missing" {
		p.t.Errorf("a token with the former contact identity key: %d %s", a.status, a.body)
	}
}

func (p *panelTab) configureSharedToken(g *gateway, up *upstream) {
	devtools(p.t, p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.openSecurity("by-token")
	p.choose(p.named("Shared token", 0))
	p.sees("Simplest; anyone who has it can sign.")
	identity := chromedp.ID(p.named("Contact identity key", 0))
	browse(p.t, p.ctx, chromedp.Clear(identity))
	browse(p.t, p.ctx, chromedp.SendKeys(identity, "customer_id"))
	p.click("Save settings")
	p.sees("What this change makes invalid")
	p.choose(p.named("Save anyway. What is listed here is refused from then on.", 0))
	p.click("Save settings")
	p.sees("The settings were saved, and are active within seconds.", "No key")
	p.click("Generate a shared token")
	p.click("Generate shared token")
	p.clickOn(`//summary[*[normalize-space(.)="Show the token"]]`)
	token, err := chromedp.Run(p.ctx, chromedp.Text(chromedp.ID("secret")))
	if err != nil {
		p.t.Fatal(err)
	}
	search.secret(token)
	g.passes(p.t, up, "by-token", sign(strings.TrimSpace(token), claims{"customer_id": "mark", "exp": valid("")["exp"]}), "mark")
}
