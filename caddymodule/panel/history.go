package panel

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// The page that says what was changed at a messenger, when and by whom.

type historyView struct {
	view
	Changes []changeView
	More    bool
}

// A changeView is an entry of a history in the words of the panel.
type changeView struct {
	At        time.Time
	Title, By string
	Details   []trail.Detail
}

// shownActor returns who has made a change, for this visit. The names of the admin API's clients have addresses in the gateway's
// network and names of certificates, which site owners are not told.
func (v *visit) shownActor(by string) string {
	if !v.Scoped() || by == "" || by == string(registry.ByContact) || strings.HasPrefix(by, actorPrefix) {
		return by
	}
	return textAnOperator
}

func (v *visit) showHistory() error {
	d, err := v.currentStatus()
	if err != nil {
		return err
	}
	h, err := v.app.ReadHistory(v.r.Context(), v.name)
	if err != nil {
		return err
	}
	page := &historyView{view: v.messengerView("history", d), More: h.More}
	for _, c := range h.Changes {
		shown := changeView{At: c.At, Title: cmp.Or(c.Action.Title(), cause.Capital(c.Action.String())), By: v.shownActor(c.By)}
		for _, detail := range c.Details {
			name, known := changeDetails()[detail.Name]
			if !known || detail.Name == trail.DetailConnections && detail.Value == "0" {
				continue
			}
			value := detail.Value
			if detail.Name == trail.DetailMode {
				value = config.Mode(value).Label()
			}
			shown.Details = append(shown.Details, trail.Detail{Name: name, Value: cmp.Or(detailValues()[value], config.MethodLabel(value), value)})
		}
		page.Changes = append(page.Changes, shown)
	}
	v.render(http.StatusOK, "history", page)
	return nil
}
