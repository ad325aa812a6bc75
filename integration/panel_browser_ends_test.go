package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// A site owner clicks on everything that ends something, first without its confirmation: nothing is changed, and the page says in
// numbers what would be. Then with it; and once after another person has changed the messenger in between.
func TestBrowserConfirmsDestructiveActions(t *testing.T) {
	if !alone(t) {
		return
	}
	g := startPanel(t, nil, "")
	u, o := g.panelOperator(), g.operator()
	u.create("acme")
	u.change("acme", "generate", "label", "web shop").secret(t)
	p := openPanel(t, g, anyChromium)
	p.answer(true)
	const keys = "?messenger=acme&page=keys"
	revision := func() string { return o.ring("acme").Revision }
	unchanged := func(what, before string) {
		t.Helper()
		if revision() != before {
			t.Errorf("%s: it was done without its confirmation", what)
		}
	}
	newToken := func() {
		t.Helper()
		p.sees("Your new shared token")
		search.secret(evaluate[string](t, p.ctx, "document.getElementById('secret').textContent"))
	}

	// A form whose box is not ticked is not even sent.
	p.open(keys)
	p.sees("web shop", "Made by", "no end date")
	before := revision()
	oldest := o.ring("acme").Tokens[0].KID
	for _, button := range []struct{ summary, name, box string }{{"Reset…", "Reset all tokens", "reset-confirm"}, {"Revoke… " + oldest, "Revoke this token", "revoke-" + oldest}} {
		p.click(button.summary)
		p.sees("Of 2 shared tokens, 0 were used in the last day.", "0 open connections of this messenger")
		p.click(button.name)
		p.focuses(button.box)
		unchanged(button.name, before)
		p.open(keys)
	}

	// Another operator rotates meanwhile: what the page showed is not true any more.
	p.click("Reset…")
	p.choose("reset-confirm")
	o.makeToken("rotate", "acme", map[string]any{"overlap": "24h"})
	before = revision()
	p.click("Reset all tokens")
	p.sees("Nothing was changed now: this form was sent before, or the messenger was changed since you opened the page.")
	unchanged("a reset from an old page", before)

	// A label with a mistake: its form is open again, with the focus on the field.
	p.click("Reset…")
	p.choose("reset-confirm")
	p.paste("label-reset", "for the\u202eshop")
	p.click("Reset all tokens")
	p.sees("One thing needs your attention", "Label has a character that is not visible.")
	p.focuses("label-reset")
	unchanged("a reset with a wrong label", before)
	p.fill("label-reset", "after the leak")
	p.choose("reset-confirm")
	p.click("Reset all tokens")
	newToken()
	p.open(keys)
	p.sees("after the leak")
	if n := len(o.ring("acme").Tokens); n != 1 {
		t.Errorf("%d shared tokens after a reset", n)
	}

	// Another method: the question stands at the end of the form, and offers to keep the method that there is.
	p.open("?messenger=acme")
	p.choose("method-public_key")
	p.paste("key-0", string(publicPEM(rsaKey(0))))
	p.click("Save settings")
	p.sees("Nothing was saved yet", "Another method removes the only shared token", "Of 1 shared token, 0 were used in the last day.", "Open connections stay open")
	if method := fmt.Sprint(g.storedSettings("acme")); strings.Contains(method, "public_key") {
		t.Errorf("it was saved without its confirmation: %s", method)
	}
	p.choosing("keep_previous", "24h")
	p.click("Save settings")
	p.sees("The settings were saved")
	p.open(keys)
	p.sees("Previous method: Shared token")
	p.click("Extend")
	p.sees("The time was extended.")
	p.click("End it now…")
	p.sees("This ends 1 shared token.")
	p.click("End the previous method")
	if !strings.Contains(fmt.Sprint(g.storedSettings("acme")), "previous") {
		t.Error("the previous method has ended without its confirmation")
	}
	p.choose("previous-confirm")
	p.click("End the previous method")
	p.sees("The previous method was removed.")

	// Another identity key, and the mode Off.
	p.open("?messenger=acme")
	p.fill("identity_key", "customer")
	p.click("Save settings")
	p.sees("Another contact identity key: tokens without the claim customer are refused")
	p.choose("confirm")
	p.click("Save settings")
	p.sees("The settings were saved")

	// The connections of all contacts, and the messenger itself.
	p.open("?messenger=acme&page=revocations")
	p.click("Revoke all tokens of all contacts…")
	p.sees("Revoke the tokens of all contacts?", "In the last day this gateway had 0 requests with a valid token")
	p.click("Cancel")
	p.sees("No token is revoked.")
	p.open("?messenger=acme&page=delete")
	p.sees("the only public key", "0 open connections", "Its connections are closed.")
	p.fill("typed", "acm")
	p.click("Delete messenger")
	p.sees("What you typed is not the name of this messenger. Nothing was deleted.")
	p.fill("typed", "acme")
	p.click("Delete messenger")
	p.sees("The messenger was deleted")
	u.get("?"+url.Values{"messenger": {"acme"}}.Encode()).says(t, 404)
}

// choosing chooses a value of the list with this id.
func (p *panelTab) choosing(id, value string) {
	p.t.Helper()
	if !evaluate[bool](p.t, p.ctx, "(() => { const list = document.getElementById("+mustJSON(id)+"); list.value = "+mustJSON(value)+"; return list.value === "+mustJSON(value)+" })()") {
		p.t.Fatalf("the list %s has no %q", id, value)
	}
}
