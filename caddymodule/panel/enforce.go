package panel

import (
	"fmt"
	"net/http"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
)

// Enforcement is switched on next to the numbers that justify it: what the mode "required" would have refused.

// Doubt says what speaks against switching on enforcement, which has to be confirmed then. It is "" if all requests of the last day
// would have passed.
func (d *messengerStatus) Doubt() string { return d.doubt(config.ModeRequired) }

// doubt is Doubt for any mode that refuses requests.
func (d *messengerStatus) doubt(mode config.Mode) string {
	if d.Readiness == nil {
		return textReadinessUnknown
	}
	w := d.Readiness.LastWindow()
	refused := w.Invalid
	if modeRefuses(mode) == modeRefuses(config.ModeRequired) {
		refused += w.None
	}
	switch {
	case w.Requests == 0:
		return textNothingCounted
	case refused > 0:
		return fmt.Sprintf(textWouldRefuse, refused, w.Requests)
	}
	return ""
}

// enforce changes the mode of a messenger to "required".
func (v *visit) enforce(sent form) error {
	d, err := v.changeable(sent)
	if err != nil {
		return err
	}
	refuse := func(status int, alert string) error {
		page := v.settingsPage(d, formOf(d.Name, d.Revision, d.Settings))
		page.Alert = alert
		v.render(status, "messenger", page)
		return nil
	}
	if d.Doubt() != "" && sent.get("confirm") == "" {
		return refuse(http.StatusUnprocessableEntity, errNotConfirmed.Error())
	}
	settings := d.Settings.CopySettings()
	settings.Mode = config.ModeRequired
	_, _, err = v.app.Put(v.r.Context(), d.Name, settings, change.Condition{Revision: sent.get("revision")}, v.actor())
	if apierror.Status(err) == http.StatusPreconditionFailed {
		return refuse(http.StatusConflict, textChangedMeanwhile)
	}
	if err != nil {
		return err
	}
	return v.redirect("messenger", d.Name, "done", "enforced")
}

// modeRefuses says how much a mode refuses: 0 for nothing, 1 for invalid tokens, 2 for requests without a token as well.
func modeRefuses(m config.Mode) int {
	return map[config.Mode]int{config.ModeOptional: 1, config.ModeRequired: 2}[m.Or(config.ModeRequired)]
}

// refusesMore reports whether a mode refuses more than the one before.
func refusesMore(was, will config.Mode) bool { return modeRefuses(will) > modeRefuses(was) }
