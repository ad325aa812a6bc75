package panel

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// The page about what a site owner does when a token has leaked or a contact must leave: revocations, and the connections that
// are open. What a form would do is shown in numbers before it is done. Contacts and tokens are in the bodies of requests only:
// addresses are logged.

// perRevocations is how many revocations a page shows.
const perRevocations = 50

type revocationsView struct {
	view
	Connections admin.Connected
	Form        revokeForm
	Revoked     []revocationView
	From, Count int    // the first that is shown, and how many there are
	First, Next string // URLs of pages, if there are such
}

// A revocationView is a revocation in a list.
type revocationView struct {
	revocation.Revocation
	ID string // of the elements of its form
}

// TokenName returns how the token is called that v revokes: by its jti, or by the hash of that.
func (v revocationView) TokenName() string {
	if v.TokenID != "" {
		return string(v.TokenID)
	}
	return "SHA-256 " + v.TokenHash.String()
}

// Key identifies v in a form, whatever characters it has: a page does not show all of them as they are. A revocation of the same
// tokens that is made later has another, so that a form of an old page does not undo it.
func (v revocationView) Key() string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q %x %q %t %v %v", v.TokenID, string(v.TokenHash), v.Identity, v.All, v.Created, v.Before)))
	return hex.EncodeToString(sum[:16])
}

// revisionOf is what a question about a target is bound to: the revocations that the target has already. A form that is sent twice, or
// after another user has revoked the same, would revoke what was issued since.
func revisionOf(list []revocation.Revocation, target revocation.Revocation) string {
	id := func(v revocation.Revocation) authn.TokenID {
		return cmp.Or(v.TokenHash, authn.NewTokenID(string(v.TokenID)))
	}
	sum := sha256.New()
	for _, v := range list {
		if id(v) == id(target) && v.Identity == target.Identity && v.All == target.All {
			sum.Write([]byte(revocationView{Revocation: v}.Key()))
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// A revokeForm is the submitted form that revokes tokens.
type revokeForm struct {
	What    string // "contact", "token" or "all"; "hash" for a token of which only the hash of its jti is known
	Contact string
	Token   string // a token, or its jti; a token is not sent back
	Hash    string
}

func (v *visit) showRevocations() error {
	return v.renderRevocations(http.StatusOK, revokeForm{}, nil, "")
}

func (v *visit) renderRevocations(status int, f revokeForm, wrong []fieldError, alert string) error {
	d, err := v.currentStatus()
	if err != nil {
		return err
	}
	list, err := v.app.Revocations(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	page := &revocationsView{view: v.messengerView("revocations", d), Connections: v.app.ConnectionsOf(v.name), Form: f, Count: len(list)}
	page.Alert, page.Errors = alert, wrong
	from, _ := strconv.Atoi(v.r.URL.Query().Get("from"))
	from = min(max(from, 0), len(list))
	to := min(from+perRevocations, len(list))
	for i, revoked := range list[from:to] {
		page.Revoked = append(page.Revoked, revocationView{revoked, strconv.Itoa(from + i)})
	}
	page.From = from + 1
	link := func(from int) string {
		return panelURL("messenger", v.name, "page", "revocations", "from", strconv.Itoa(from))
	}
	if from > 0 {
		page.First = link(0)
	}
	if to < len(list) {
		page.Next = link(to)
	}
	v.render(status, "revocations", page)
	return nil
}

type revokeView struct {
	view
	Form   revokeForm
	Fields [][2]string // of the form that does it

	Revision string     // see revisionOf
	Open     int        // connections that would be closed
	All      int        // that are open at the messenger
	Expires  *time.Time // of the token
	InUse    string     // what is in use, if the tokens of all contacts are revoked
}

// changeRevocations revokes tokens, ends connections and undoes revocations. What it would do is shown first.
func (v *visit) changeRevocations(sent form) error {
	if sent.get("action") == "undo" {
		return v.undoRevocation(sent)
	}
	f := revokeForm{What: sent.get("what"), Contact: sent.get("contact"), Token: sent.get("token"), Hash: sent.get("hash")}
	target, expires, wrong, err := v.target(f)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		f.Token = "" // it may be a whole token
		if f.What == "token" {
			f.Contact = target.Identity
		}
		return v.renderRevocations(http.StatusUnprocessableEntity, f, wrong, "")
	}
	list, err := v.app.Revocations(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	revision := revisionOf(list, target)
	matching := admin.EndRequest{Messenger: v.name, Identity: target.Identity, TokenID: target.TokenID, TokenHash: target.TokenHash}
	switch sent.get("action") {
	case "look":
		d, err := v.currentStatus()
		if err != nil {
			return err
		}
		page := &revokeView{view: v.messengerView("revocations", d), Form: f, Fields: revocationFields(f.What, target),
			Revision: revision, Open: v.app.CountConnections(matching), All: v.app.ConnectionsOf(v.name).Open, Expires: expires}
		if target.All {
			if page.InUse, err = inUseOf(v.app, v.r.Context(), d); err != nil {
				return err
			}
		}
		v.render(http.StatusOK, "revoke", page)
		return nil
	case "revoke":
		switch sent.get("revision") {
		case "":
			return errNoRevision
		case revision:
		default:
			return v.renderRevocations(http.StatusConflict, revokeForm{}, nil, textRevokedBefore)
		}
		if until, err := time.Parse(time.RFC3339, sent.get("until")); err == nil && f.What == "hash" {
			target.Until = &until // the token's own exp, as the page of the question had it
		}
		ended, err := v.app.Revoke(v.r.Context(), v.name, target, v.actor())
		return v.revoked(f, "contacts-revoked", ended, err)
	case "close":
		ended, err := v.app.EndConnections(v.r.Context(), matching, v.actor())
		return v.revoked(f, "ended", ended, err)
	}
	return errNoPage
}

// revocationFields returns the fields of the form that revokes what the page of the question is about. A token that was pasted is not among
// them; its ID is.
func revocationFields(what string, target revocation.Revocation) [][2]string {
	switch {
	case target.TokenHash != "":
		return [][2]string{{"what", "hash"}, {"hash", target.TokenHash.String()}}
	case target.TokenID != "":
		return [][2]string{{"what", "token"}, {"token", string(target.TokenID)}}
	case target.Identity != "":
		return [][2]string{{"what", "contact"}, {"contact", target.Identity}}
	}
	return [][2]string{{"what", what}}
}

// undoRevocation undoes a revocation of the list.
func (v *visit) undoRevocation(sent form) error {
	if sent.get("confirm") == "" {
		return v.renderRevocations(http.StatusUnprocessableEntity, revokeForm{}, nil, errNotConfirmed.Error())
	}
	list, err := v.app.Revocations(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(r revocation.Revocation) bool { return revocationView{Revocation: r}.Key() == sent.get("key") })
	if at >= 0 {
		err = v.app.UndoRevocation(v.r.Context(), v.name, list[at], v.actor())
	}
	if at < 0 || apierror.Status(err) == http.StatusNotFound {
		return v.renderRevocations(http.StatusConflict, revokeForm{}, nil, textUndoneBefore)
	}
	if err != nil {
		return v.revoked(revokeForm{}, "", 0, err)
	}
	return v.redirect("messenger", v.name, "page", "revocations", "done", "undone")
}

// revoked answers a form that was carried out, or not.
func (v *visit) revoked(f revokeForm, done string, ended int, err error) error {
	if answer := (caddy.APIError{}); errors.As(err, &answer) && answer.HTTPStatus < http.StatusInternalServerError && answer.HTTPStatus != http.StatusNotFound {
		return v.renderRevocations(answer.HTTPStatus, f, nil, cause.Sentence(textNothingChanged+answer.Err.Error()))
	}
	if err != nil {
		return err
	}
	return v.redirect("messenger", v.name, "page", "revocations", "done", done, "ended", strconv.Itoa(ended))
}

// target returns what a form is about. Of a token it finds the ID, and when it expires; the token has to be valid, because a
// forged one could name the ID of another.
func (v *visit) target(f revokeForm) (target revocation.Revocation, expires *time.Time, wrong []fieldError, err error) {
	refuse := func(field, text string) { wrong = []fieldError{{field, text}} }
	switch f.What {
	case "all":
		target.All = true
	case "contact":
		if target.Identity = f.Contact; f.Contact == "" {
			refuse("contact", textNoContact)
		} else if printable.Line(f.Contact) != f.Contact {
			refuse("contact", textContactIdentity+hidden(f.Contact))
		}
	case "hash":
		if target.TokenHash.UnmarshalText([]byte(f.Hash)) != nil {
			return target, nil, nil, errNoPage
		}
	case "token":
		switch {
		case f.Token == "":
			refuse("token", textNoToken)
		case strings.Count(f.Token, ".") == 2 && strings.HasPrefix(f.Token, "eyJ"):
			return v.tokenTarget(f.Token)
		case printable.Line(f.Token) != f.Token:
			refuse("token", textTokenID+hidden(f.Token))
		default:
			target.TokenID = revocation.TokenID(f.Token)
		}
	default:
		return target, nil, nil, errNoPage
	}
	if len(wrong) == 0 {
		if err := target.CheckNew(); err != nil {
			refuse(map[string]string{"contact": "contact", "token": "token"}[f.What], cause.Sentence(err.Error()))
		}
	}
	return target, nil, wrong, nil
}

// tokenTarget returns the revocation of one token that was pasted.
func (v *visit) tokenTarget(token string) (target revocation.Revocation, expires *time.Time, wrong []fieldError, err error) {
	m, err := v.app.LookUp(v.r.Context(), v.name)
	if err != nil {
		return target, nil, nil, err
	}
	contact, rej := m.Verifier.Load().Verify(v.r.Context(), token)
	switch {
	case rej != nil && rej.Code == authn.KeysUnavailable:
		return target, nil, nil, apierror.New(http.StatusServiceUnavailable, textKeysUnavailable)
	case rej != nil:
		wrong = []fieldError{{"token", fmt.Sprintf(textRefusedBefore, rej.Code)}}
	case contact.TokenID == "":
		wrong = []fieldError{{"token", textNoTokenID}}
		if shownLine(contact.Identity) == contact.Identity { // the field of the contact sends it back as it is
			target.Identity = contact.Identity
			wrong[0].Text += textContactFilled
		}
	default:
		target.TokenHash = contact.TokenID
		if !contact.Expires.IsZero() {
			expires = &contact.Expires
		}
	}
	return target, expires, wrong, nil
}
