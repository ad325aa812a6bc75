package panel

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// perPage is how many stored messengers a page of the list has at most, and how many configured ones.
const perPage = 50

type listView struct {
	view
	Messengers []*admin.Description
	Missing    []string // names of the scope for which no messenger exists
	Search     string
	Filters    []filterView
	Filtered   bool   // a search text or a filter is set
	Opened     bool   // the filters are shown
	First      string // the URL of the first page; "" on the first page
	Next       string // the URL of the next page; "" on the last page
}

// A filterView is one filter of the list, or its order.
type filterView struct {
	Name, Label, Value string
	Choices            []config.Choice
}

// filters returns the filters and the orders of the list, with the values of the query. The first choice of each is the default.
func filters(values url.Values) (list []filterView) {
	orAny := func(choices []config.Choice) []config.Choice {
		return slices.Concat([]config.Choice{{Label: textAny}}, choices)
	}
	list = []filterView{
		{Name: "method", Label: textMethod, Choices: orAny(config.Methods)},
		{Name: "mode", Label: textMode, Choices: orAny(config.Modes)},
		{Name: "source", Label: textFrom, Choices: []config.Choice{{Label: textAnywhere}, {Value: registry.SourceConfig, Label: textConfiguration}, {Value: registry.SourceStored, Label: textStorage}}},
		{Name: "sort", Label: textOrder, Choices: []config.Choice{{Label: textByName}, {Value: "changed", Label: textLastChange}}},
	}
	for i := range list {
		list[i].Value = values.Get(list[i].Name)
	}
	return list
}

// A badge is a remark of one or two words.
type badge struct {
	Text, Kind string // the kind is "", "good", "warn" or "bad"
}

// badgesOf returns the badges of a messenger in the list. They show only what differs from most messengers.
func badgesOf(d *admin.Description) (badges []badge) {
	if d.State != nil && d.Mode != config.ModeOff {
		if b, ok := stateBadges()[d.State.Keys]; ok {
			badges = append(badges, b)
		}
	}
	switch d.Mode {
	case config.ModeRequired:
	case config.ModeOff:
		badges = append(badges, badge{d.Mode.Label(), ""})
	default:
		badges = append(badges, badge{d.Mode.Label(), "warn"})
	}
	if d.Source == registry.SourceConfig {
		badges = append(badges, badge{textConfiguration, ""})
	}
	return badges
}

// showList shows all messengers, page by page.
func (v *visit) showList() error {
	values := v.r.URL.Query()
	page := &listView{view: v.view(textMessengers), Search: values.Get("search"), Filters: filters(values)}
	query := admin.ReadListQuery(values)
	query.Limit, query.State = perPage, "true"
	list, err := v.app.List(v.r.Context(), query)
	if errors.Is(err, admin.ErrTooMany) {
		page.Alert = textTooMany
		page.Opened = true
		for _, f := range page.Filters {
			values.Del(f.Name)
		}
		query = admin.ListQuery{Search: query.Search, Limit: perPage, State: "true"}
		list, err = v.app.List(v.r.Context(), query)
	}
	if err != nil {
		return err
	}
	page.Messengers = list.Messengers
	for _, f := range page.Filters {
		page.Opened = page.Opened || f.Value != ""
	}
	page.Filtered = page.Search != "" || page.Opened
	link := func(after string) string {
		values.Del("done")
		values.Del("after")
		if after != "" {
			values.Set("after", after)
		}
		return "?" + values.Encode()
	}
	if list.Next != "" {
		page.Next = link(list.Next)
	}
	if query.After != "" {
		page.First = link("")
	}
	v.render(http.StatusOK, "list", page)
	return nil
}

// showScope shows the messengers that the directive of this panel names.
func (v *visit) showScope() error {
	page := &listView{view: v.view(textYourMessengers)}
	for _, name := range v.scope {
		d, err := v.app.Describe(v.r.Context(), name)
		switch {
		case apierror.Status(err) == http.StatusNotFound:
			page.Missing = append(page.Missing, name)
		case err != nil:
			return err
		default:
			page.Messengers = append(page.Messengers, d)
		}
	}
	if err := v.app.AddStates(v.r.Context(), page.Messengers); err != nil {
		return err
	}
	v.render(http.StatusOK, "list", page)
	return nil
}
