package panel

import (
	"net/http"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// The shared tokens on the page Keys, and the fields of the forms that make one. What was typed is on the page again if something was
// wrong with it, except for a secret.

// A tokenView is a shared token in the list.
type tokenView struct {
	admin.TokenInfo
	Who string // who made it, for this visit
}

// tokenViews returns the shared tokens as this visit may see them.
func (v *visit) tokenViews(ring *admin.TokenList) (list []tokenView) {
	for _, t := range ring.Tokens {
		list = append(list, tokenView{t, v.shownActor(t.MadeBy)})
	}
	return list
}

// A ringField is a field of a form that makes a token.
type ringField struct {
	ID, Text, Wrong string
}

// RingField returns a field of the page by its ID, as it was sent.
func (p *keysView) RingField(id string) ringField {
	return ringField{ID: id, Text: p.Sent[id], Wrong: p.Errors.Of(id)}
}

// Failed reports whether something was wrong with the form of an action.
func (p *keysView) Failed(action string) bool { return len(p.Errors) > 0 && p.Action == action }

// labelField is the ID of the field for the label of the token that an action makes.
func labelField(action string) string { return "label-" + action }

// ringMistakes returns everything that is wrong with the fields of a form that makes a token. Nothing in it quotes a secret.
func ringMistakes(sent form) (wrong []fieldError) {
	action := sent.get("action")
	if action == "import" {
		if err := admin.CheckImported(sent.get("secret"), sharedtoken.Encoding(sent.get("encoding"))); err != nil {
			wrong = append(wrong, fieldError{"secret", cause.Sentence(textSecret + err.Error())})
		}
		if err := admin.CheckImportedKeyID(sent.get("kid"), sent.get("secret")); err != nil {
			wrong = append(wrong, fieldError{"import-kid", cause.Sentence(textKeyID + err.Error())})
		}
	}
	if err := ledger.CheckLabel(sent.get("label")); err != nil {
		wrong = append(wrong, fieldError{labelField(action), cause.Sentence(textLabel + err.Error())})
	} else if admin.ShowsSecret(sent.get("label"), sent.get("secret")) {
		wrong = append(wrong, fieldError{labelField(action), textLabelSecret})
	}
	return wrong
}

// refuseRing shows the page with what is wrong with a form that makes a token.
func (v *visit) refuseRing(sent form, wrong []fieldError) error {
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	page.Errors, page.Action = wrong, sent.get("action")
	page.Sent = map[string]string{labelField(page.Action): sent.get("label"), "import-kid": sent.get("kid"), "encoding": sent.get("encoding")}
	for field, text := range page.Sent {
		if sharedtoken.IsIn(text) || admin.ShowsSecret(text, sent.get("secret")) {
			page.Sent[field] = ""
		}
	}
	v.render(http.StatusUnprocessableEntity, "keys", page)
	return nil
}

// makesToken reports whether a form makes a token.
func makesToken(sent form) bool {
	return strings.Contains(" generate rotate reset import ", " "+sent.get("action")+" ")
}
