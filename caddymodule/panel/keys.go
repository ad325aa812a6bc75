package panel

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/samples"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// The page about a messenger's keys: the key ring, public keys, and the keys of a URL.

type keysView struct {
	view
	Ring     *admin.TokenList // of generated shared tokens
	Keys     *admin.KeysInfo
	Previous *config.Previous // nil if there is none
	Fetched  string           // where the keys are from, as it was configured
	Overlaps []overlap
	Tokens   []tokenView       // of Ring
	InUse    string            // what is in use, for what asks before it ends something
	Ends     string            // what the previous method has, in numbers
	Action   string            // whose form was refused
	Sent     map[string]string // what was typed into it, by field
	Names    map[sigkey.Info]string
	Lifetime string // of tokens that the programs of the page Embed sign
}

// KeyName returns what the page Security calls a public key, or "" for a key that it does not show.
func (p *keysView) KeyName(key admin.KeyInfo) string { return p.Names[key.Info] }

// IsPrevious reports whether a key is only one of the method before.
func (p *keysView) IsPrevious(key admin.KeyInfo) bool {
	return p.Previous != nil && len(p.Names) > 0 && p.KeyName(key) == ""
}

// SameKind reports whether the method before differs from the current one only in its keys.
func (p *keysView) SameKind() bool { return p.Previous.Settings().Method() == p.M.Method }

// keyNames are what the page Security calls the public keys of m. There are none if one of them cannot be read here, as those that
// are in files: keys without a name would look like those of the method before.
func keyNames(m *config.Messenger) map[sigkey.Info]string {
	names := make(map[sigkey.Info]string)
	for i, k := range m.PublicKey {
		infos := publicKeys(&config.Messenger{PublicKey: []config.PublicKey{k}})
		if len(infos) == 0 {
			return nil
		}
		name := textPublicKey
		if len(m.PublicKey) > 1 {
			name += " " + strconv.Itoa(i+1)
		}
		names[infos[0]] = name
	}
	return names
}

// An overlap is one choice of how long the old tokens stay valid.
type overlap struct {
	Value, Label string
	duration     time.Duration
	Chosen       bool
}

// overlapOf returns the choice that a form has.
func overlapOf(sent form) (overlap, error) {
	i := slices.IndexFunc(overlaps, func(o overlap) bool { return o.Value == sent.get("overlap") })
	if i < 0 {
		return overlap{}, apierror.New(http.StatusBadRequest, textChooseOverlap)
	}
	return overlaps[i], nil
}

// changePrevious extends or ends the previous method of a stored messenger.
func (v *visit) changePrevious(sent form) error {
	d, err := v.changeable(sent)
	if err != nil {
		return err
	}
	settings := d.Settings.CopySettings()
	settings.Previous = nil
	c, done := change.Condition{Revision: sent.get("revision"), Confirm: change.AnyLoss}, "previous-ended"
	switch sent.get("action") {
	case "previous-extend":
		o, err := overlapOf(sent)
		if err != nil {
			return err
		}
		keep := o.duration
		if p := d.Settings.Previous; !p.IsOver(registry.Now()) && !registry.Now().Add(keep).After(p.Until) {
			return v.renderKeys(http.StatusConflict, fmt.Sprintf(textValidLonger, p.Until.UTC().Format(time.RFC3339)))
		}
		c.KeepPrevious, done = &keep, "extended"
	default:
		if sent.get("confirm") == "" {
			return errNotConfirmed
		}
	}
	if _, _, err = v.app.Put(v.r.Context(), d.Name, settings, c, v.actor()); err != nil {
		return v.notChanged(err)
	}
	return v.redirect("messenger", v.name, "page", "keys", "done", done)
}

// notChanged answers a form about keys that was not carried out.
func (v *visit) notChanged(err error) error {
	if apierror.Status(err) == http.StatusPreconditionFailed {
		return v.renderKeys(http.StatusConflict, textSentBefore)
	}
	if answer := (caddy.APIError{}); errors.As(err, &answer) && answer.HTTPStatus < http.StatusInternalServerError {
		return v.renderKeys(answer.HTTPStatus, cause.Sentence(textNothingChanged+answer.Err.Error()))
	}
	return err
}

func (v *visit) showKeys() error { return v.renderKeys(http.StatusOK, "") }

func (v *visit) renderKeys(status int, alert string) error {
	page, err := v.keysPage()
	if err != nil {
		return err
	}
	page.Alert = alert
	v.render(status, "keys", page)
	return nil
}

func (v *visit) keysPage() (*keysView, error) {
	d, err := v.currentStatus()
	if err != nil {
		return nil, err
	}
	page := &keysView{view: v.messengerView("keys", d), Keys: d.keys, Overlaps: overlaps, Names: keyNames(d.Settings)}
	page.Lifetime = span(time.Duration(samples.For(d.Settings, nil).Seconds) * time.Second)
	if d.Settings.JWKS != nil {
		page.Fetched = keyserver.Shown(d.Settings.JWKS.Document())
	}
	if !d.Settings.Previous.IsOver(registry.Now()) {
		page.Previous = d.Settings.Previous
	}
	tokens := 0
	if d.Settings.UsesRing(registry.Now()) {
		if page.Ring, err = v.app.Tokens(v.r.Context(), d.Name); err != nil {
			return nil, err
		}
		page.Tokens, tokens = v.tokenViews(page.Ring), len(page.Ring.Tokens)
	}
	without := d.Settings.CopySettings()
	without.Previous = nil
	page.InUse, page.Ends = inUse(v.app, d, page.Ring), d.Settings.Lost(without, registry.Now(), tokens).String()
	return page, nil
}

type secretView struct {
	view
	Token    *ledger.NewToken
	Replaces string // what happened to the other tokens
}

// changeKeys generates, rotates, resets and revokes shared tokens, and fetches key sets. A new token is in this answer
// and nowhere else: sent again, the form has an old revision.
func (v *visit) changeKeys(sent form) error {
	switch sent.get("action") {
	case "refresh":
		return v.refreshKeys()
	case "previous-extend", "previous-end":
		return v.changePrevious(sent)
	}
	if makesToken(sent) {
		if wrong := ringMistakes(sent); len(wrong) > 0 {
			return v.refuseRing(sent, wrong)
		}
	}
	ring, replaces, err := ringChangeOf(sent)
	if err == nil && ring.Makes {
		ring, err = admin.Labelled(ring, sent.get("label"))
	}
	if err != nil {
		return err
	}
	c := change.Condition{Revision: sent.get("revision")}
	if _, there := sent["revision"]; !there {
		return errNoRevision
	}
	if c.Revision == "" {
		c.Absent = true // a configured messenger that had no ring when the page was made
	}
	d, err := v.currentStatus() // before: a token that was made is shown even if the storage fails after that
	if err != nil {
		return err
	}
	made, _, err := v.app.ChangeTokens(v.r.Context(), v.name, ring, c, v.actor())
	switch {
	case err != nil:
		return v.notChanged(err)
	case made == nil && ring.Extends:
		return v.redirect("messenger", v.name, "page", "keys", "done", "extended")
	case made == nil:
		return v.redirect("messenger", v.name, "page", "keys", "done", "revoked")
	case made.Token == "":
		return v.redirect("messenger", v.name, "page", "keys", "done", "imported")
	}
	if now, err := v.currentStatus(); err == nil {
		d = now
	}
	page := &secretView{view: v.messengerView("keys", d), Token: made, Replaces: replaces}
	if made.Ended != nil {
		page.Replaces += fmt.Sprintf(textConnectionsEnded, *made.Ended)
	}
	page.Title = textNewToken + v.name
	if list, err := v.app.Tokens(v.r.Context(), v.name); err == nil && len(list.Tokens) == 1 && sent.get("action") == "generate" {
		page.Replaces = "" // it is the first
	}
	v.render(http.StatusOK, "secret", page)
	return nil
}

var errNotConfirmed = apierror.New(http.StatusUnprocessableEntity, textTickTheBox)

// ringChangeOf returns the change that a form requests, and what it does to the other tokens. What revokes tokens or lets them expire
// has to be confirmed.
func ringChangeOf(sent form) (change ledger.RingChange, replaces string, err error) {
	action := sent.get("action")
	if (action == "rotate" || action == "reset" || action == "revoke") && sent.get("confirm") == "" {
		return change, "", errNotConfirmed
	}
	switch action {
	case "generate":
		return ledger.GenerateToken(), textOthersStay, nil
	case "rotate":
		o, err := overlapOf(sent)
		return ledger.RotateTokens(o.duration), fmt.Sprintf(textOthersExpire, o.Label), err
	case "extend":
		o, err := overlapOf(sent)
		return ledger.ExtendToken(sent.get("kid"), o.duration), "", err
	case "import":
		change, err := admin.ImportOf(sent.get("secret"), sharedtoken.Encoding(sent.get("encoding")), sent.get("kid"))
		return change, "", err
	case "reset":
		return ledger.ResetTokens(sent.get("close") != ""), textOthersRevoked, nil
	case "revoke":
		return ledger.RevokeToken(sent.get("kid"), sent.get("close") != ""), "", nil
	}
	return change, "", errNoPage
}

// refreshKeys fetches the key set of a messenger at once.
func (v *visit) refreshKeys() error {
	m, err := v.app.LookUp(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	if m.KeySet == nil {
		return errNoPage
	}
	if err := v.app.Refresh(v.r.Context(), m, false, v.actor()); err != nil {
		if answer := (caddy.APIError{}); errors.As(err, &answer) {
			err = answer.Err // it cannot be unwrapped
		}
		return v.renderKeys(http.StatusBadGateway, cause.Sentence(textNotFetched+keyserver.Reason(err).Error()))
	}
	return v.redirect("messenger", v.name, "page", "keys", "done", "refreshed")
}
