package panel

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// What the forms of the panel do to messengers. Each form has the revision of what its page showed, so that a form that is sent
// twice, or after another user's change, changes nothing.

// actorPrefix is in front of the names of the panel's users, so that they are not taken for others.
const actorPrefix = "panel, "

func (v *visit) actor() registry.Actor { return registry.Actor(actorPrefix + v.Operator) }

type settingsView struct {
	view
	Form        *settingsForm
	New         bool
	Losses      []string     // what the save makes invalid, if that has to be confirmed
	InUse       string       // what is in use now, if so
	Keeps       []overlap    // how long the method that is replaced can stay in use, if the save replaces one
	SameKind    bool         // only the keys of the method are replaced
	Confirm     string       // what confirms it
	Differences []difference // if another user saved meanwhile
}

// showMessenger shows the settings of a messenger, for a stored one as a form.
func (v *visit) showMessenger() error {
	d, err := v.currentStatus()
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "messenger", v.settingsPage(d, formOf(d.Name, d.Revision, d.Settings)))
	return nil
}

func (v *visit) settingsPage(d *messengerStatus, f *settingsForm) *settingsView {
	return &settingsView{view: v.messengerView("settings", d), Form: f}
}

// changeable describes the messenger of this visit for a form that changes it.
func (v *visit) changeable(sent form) (*messengerStatus, error) {
	d, err := v.currentStatus()
	switch {
	case err != nil:
		return nil, err
	case !d.Stored:
		return nil, errReadOnly
	case sent.get("revision") == "":
		return nil, errNoRevision
	}
	return d, nil
}

// saveMessenger changes the settings of a stored messenger.
func (v *visit) saveMessenger(sent form) error {
	d, err := v.changeable(sent)
	if err != nil {
		return v.keepForm(err, sent)
	}
	f := settingsFrom(sent)
	f.Name = d.Name
	f.complete(d.Settings)
	if f.Revision != d.Revision {
		return v.showConflict(sent, f)
	}
	page := v.settingsPage(d, f)
	settings, wrong := f.settings(d.Settings)
	c := change.Condition{Revision: f.Revision, Confirm: change.AnyLoss}
	check := func(m *config.Messenger) error { return v.app.CheckPut(v.r.Context(), d.Name, m) }
	if wrong = mistakes(settings, check, wrong); len(wrong) == 0 {
		f.keepPrevious(d.Settings, settings)
		if wrong, err = v.ask(d, f, settings, page); err != nil {
			return err
		}
	}
	if len(wrong) > 0 {
		return v.refuse(page, wrong)
	}
	_, _, err = v.app.Put(v.r.Context(), d.Name, settings, c, v.actor())
	if apierror.Status(err) == http.StatusPreconditionFailed {
		return v.showConflict(sent, f)
	}
	if e, ok := formError(err); ok {
		return v.refuse(page, []fieldError{e})
	}
	if err != nil {
		return err
	}
	return v.redirect("messenger", d.Name, "done", "saved")
}

// ask fills page with what the new settings make invalid, unless the form has confirmed it.
func (v *visit) ask(d *messengerStatus, f *settingsForm, settings *config.Messenger, page *settingsView) ([]fieldError, error) {
	if !settings.SameMethod(d.Settings) {
		page.Keeps, page.SameKind = f.keeps(), settings.Method() == d.Settings.Method()
	}
	losses, err := losses(v.app, v.r.Context(), d, settings)
	if err != nil || len(losses) == 0 {
		return nil, err
	}
	confirm := confirmation(f.Revision, settings, losses)
	if f.Confirmed == confirm {
		return nil, nil
	}
	page.Losses, page.Confirm = losses, confirm
	if page.InUse, err = inUseOf(v.app, v.r.Context(), d); err != nil {
		return nil, err
	}
	page.InUse += " " + connectionsAfter(d.Settings, settings)
	if refusesMore(d.Mode, settings.Mode) {
		page.InUse = strings.TrimSpace(d.doubt(settings.Mode) + " " + page.InUse)
	}
	return []fieldError{{"confirm", textConfirmLosses}}, nil
}

// showConflict shows both versions if another user has saved since the form was loaded. Sent again, the form replaces
// what is shown now, and nothing that is newer.
func (v *visit) showConflict(sent form, f *settingsForm) error {
	d, err := v.currentStatus()
	if err != nil {
		return v.keepForm(err, sent)
	}
	page := v.settingsPage(d, f)
	page.Differences = f.differences(formOf(d.Name, d.Revision, d.Settings))
	f.Revision = d.Revision
	page.Alert = textChangedBefore
	v.render(http.StatusConflict, "messenger", page)
	return nil
}

// keepForm shows an operator who may create messengers what was typed for one that was deleted in between.
func (v *visit) keepForm(err error, sent form) error {
	if apierror.Status(err) != http.StatusNotFound || v.Scoped() {
		return err
	}
	f := settingsFrom(sent)
	f.Name, f.Revision = v.name, ""
	page := &settingsView{view: v.view(textNewMessenger), Form: f, New: true}
	page.Alert = textDeletedBefore
	v.render(http.StatusConflict, "new", page)
	return nil
}

func (v *visit) showNew() error {
	v.render(http.StatusOK, "new", &settingsView{view: v.view(textNewMessenger), Form: newForm(), New: true})
	return nil
}

// createMessenger creates a stored messenger, unless one of its name exists.
func (v *visit) createMessenger(sent form) error {
	f := settingsFrom(sent)
	settings, wrong := f.settings(nil)
	if err := config.CheckName(f.Name); err != nil {
		wrong = append([]fieldError{{"name", cause.Sentence(textName + " " + err.Error())}}, wrong...)
	}
	check := func(m *config.Messenger) error {
		if err := m.CheckSaved(v.app.Store.IsInternal); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
		return nil
	}
	if wrong = mistakes(settings, check, wrong); len(wrong) == 0 {
		_, _, err := v.app.Put(v.r.Context(), f.Name, settings, change.Condition{Absent: true}, v.actor())
		switch e, ok := formError(err); {
		case err == nil && settings.IsGenerated():
			return v.redirect("messenger", f.Name, "page", "keys", "done", "created")
		case err == nil:
			return v.redirect("messenger", f.Name, "done", "created")
		case apierror.Status(err) == http.StatusPreconditionFailed:
			wrong = []fieldError{{"name", textNameTaken}}
		case ok:
			wrong = []fieldError{e}
		default:
			return err
		}
	}
	return v.refuse(&settingsView{view: v.view(textNewMessenger), Form: f, New: true}, wrong)
}

type deleteView struct {
	view
	Typed string
	Keys  string // the keys or shared tokens that are deleted too; "" for none
	InUse string
}

func (v *visit) showDelete() error {
	page, err := v.deletePage()
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "delete", page)
	return nil
}

// deletePage refuses to delete on a mount that names its messengers, and what is not stored.
func (v *visit) deletePage() (*deleteView, error) {
	if v.Scoped() {
		return nil, errNoPage
	}
	d, err := v.currentStatus()
	if err != nil {
		return nil, err
	}
	if !d.Stored {
		return nil, errReadOnly
	}
	page := &deleteView{view: v.messengerView("delete", d)}
	n, known, err := activeKeys(v.app, v.r.Context(), d)
	if err != nil {
		return nil, err
	}
	if n > 0 || !known {
		page.Keys = d.named(n, known)
	}
	page.InUse, err = inUseOf(v.app, v.r.Context(), d)
	return page, err
}

// deleteMessenger deletes the messenger whose name was typed.
func (v *visit) deleteMessenger(sent form) error {
	page, err := v.deletePage()
	if err != nil {
		return err
	}
	switch page.Typed = sent.get("typed"); {
	case sent.get("revision") == "":
		return errNoRevision
	case page.Typed != v.name:
		page.Errors = []fieldError{{"typed", textTypedOther}}
		v.render(http.StatusUnprocessableEntity, "delete", page)
		return nil
	}
	_, err = v.app.Remove(v.r.Context(), v.name, change.Condition{Revision: sent.get("revision")}, v.actor())
	if apierror.Status(err) == http.StatusPreconditionFailed {
		page.Alert = textNotDeleted
		v.render(http.StatusConflict, "delete", page)
		return nil
	}
	if err != nil {
		return err
	}
	return v.redirect("done", "deleted")
}

var (
	errReadOnly   = apierror.New(http.StatusConflict, textReadOnly)
	errNoRevision = apierror.New(http.StatusBadRequest, textNoRevision)
)
