package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/nameindex"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

const (
	// MaxListed is how many stored messengers one answer lists, and how many configured ones.
	MaxListed = 1000

	// maxLooked is how many names are looked at for one answer: those of deleted messengers are not listed.
	maxLooked = 5 * MaxListed

	// fewest is how many names are looked at together, at least.
	fewest = 64

	// listTime bounds one answer. The storage may be slow.
	listTime = 20 * time.Second
)

// A ListQuery says which messengers a list has, and in which order.
type ListQuery struct {
	After  string // the cursor of the page before; "" for the first page
	Limit  int    // how many stored ones a page has at most, and how many configured ones; 0 for MaxListed
	Search string // a part of the name

	// Filters and another order than that of names; "" for none. They need at most registry.MaxSorted names.
	Method, Mode, Source string
	Sort                 string // "changed": the last change first

	State string // "true": with the state of each messenger, which costs a read of the storage for many of them
}

// A MessengerPage is one page of a list.
type MessengerPage struct {
	Messengers []Description
	Next       string // the cursor of the next page; "" if this is the last one
	Count      int    // how many messengers match a query with filters or another order; for others, how many stored names there are at least
}

var (
	// ErrTooMany is the error for filters or another order with too many messengers.
	ErrTooMany = apierror.New(http.StatusConflict, fmt.Sprintf("there are more than %d messengers, which is the most that can be filtered or sorted; search for a part of the name first", registry.MaxSorted))
	errSlow    = apierror.New(http.StatusServiceUnavailable, "the storage has not answered in time; try again, with fewer messengers (limit)")
)

// sorted reports whether the messengers have to be read before it is known which of them are on the page.
func (q *ListQuery) sorted() bool {
	return q.Method != "" || q.Mode != "" || q.Source != "" || q.Sort != ""
}

// check returns an error for a query that nothing can match.
func (q *ListQuery) check() error {
	if q.Limit = cmp.Or(q.Limit, MaxListed); q.Limit < 1 || q.Limit > MaxListed {
		return apierror.New(http.StatusBadRequest, fmt.Sprintf("limit is not a number from 1 to %d", MaxListed))
	}
	q.Search = strings.ToLower(strings.TrimSpace(q.Search))
	for _, word := range []struct {
		name, value string
		of          []string
	}{
		{"method", q.Method, []string{"public_key", "jwks", "shared_token"}},
		{"mode", q.Mode, []string{string(config.ModeRequired), string(config.ModeOptional), string(config.ModeReport), string(config.ModeOff)}},
		{"source", q.Source, []string{registry.SourceConfig, registry.SourceStored}},
		{"sort", q.Sort, []string{"changed"}},
		{"state", q.State, []string{"true"}},
	} {
		if word.value != "" && !slices.Contains(word.of, word.value) {
			return apierror.New(http.StatusBadRequest, word.name+" is none of "+strings.Join(word.of, ", "))
		}
	}
	return nil
}

// List returns a page of messengers. By default they are sorted by name, those that are configured before those that are stored.
func (s *Service) List(ctx context.Context, q ListQuery) (*MessengerPage, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	page, err := s.list(within, q)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil, errSlow
	}
	return page, err
}

func (s *Service) list(ctx context.Context, q ListQuery) (*MessengerPage, error) {
	view, err := s.StoredNames(ctx) // before a slot is taken: callers share the reading
	if err != nil {
		return nil, err
	}
	if listing.take(ctx, listTime) != nil {
		return nil, errSlow
	}
	defer listing.release()
	var page *MessengerPage
	if q.sorted() {
		page, err = s.listSorted(ctx, q, view)
	} else {
		page, err = s.listByName(ctx, q, view)
	}
	if err == nil && q.State != "" {
		err = s.AddStates(ctx, page.Messengers)
	}
	return page, err
}

// listByName is list in the order of names, without filters. A page has at most as many configured messengers as its limit
// says, and after the last of these at most as many stored ones.
func (s *Service) listByName(ctx context.Context, q ListQuery, view nameindex.View) (*MessengerPage, error) {
	page := &MessengerPage{Messengers: []Description{}, Count: view.Count}
	if after, found := strings.CutPrefix(q.After, afterConfigured); found || q.After == "" {
		q.After = ""
		for _, name := range s.Names() {
			if name <= after || !strings.Contains(name, q.Search) {
				continue
			}
			if n := len(page.Messengers); n == q.Limit {
				page.Next = afterConfigured + page.Messengers[n-1].Name
				return page, nil
			}
			page.Messengers = append(page.Messengers, *s.describeConfigured(name))
		}
	}
	full := len(page.Messengers) + q.Limit
	var names []string
	read := func() error {
		found, err := s.describeAll(ctx, names)
		page.Messengers, names = append(page.Messengers, found...), names[:0]
		if len(page.Messengers) > full {
			page.Messengers = page.Messengers[:full]
			page.Next = page.Messengers[full-1].Name
		}
		return err
	}
	looked, last := 0, ""
	for name := range view.Matching(q.After, q.Search) {
		if len(names) == max(full-len(page.Messengers), fewest) {
			if err := read(); err != nil {
				return nil, err
			}
			if len(page.Messengers) == full || looked >= maxLooked {
				page.Next = cmp.Or(page.Next, last)
				return page, nil
			}
		}
		if looked, last = looked+1, name; s.Messengers[name] == nil { // a stored messenger with a configured name is ignored, and was logged
			names = append(names, name)
		}
	}
	return page, read()
}

// afterConfigured begins the cursor of a page after a configured name. No name has a colon.
const afterConfigured = "config:"

// describeConfigured describes a messenger of the configuration.
func (s *Service) describeConfigured(name string) *Description {
	return describe(name, registry.SourceConfig, s.Messengers[name].Written, nil)
}

// describeAll describes those of the messengers that there are, in the order of the names.
func (s *Service) describeAll(ctx context.Context, names []string) (list []Description, err error) {
	read := make([]*Description, len(names))
	var stored []string
	var at []int
	for i, name := range names {
		if s.Messengers[name] != nil {
			read[i] = s.describeConfigured(name)
		} else {
			stored, at = append(stored, name), append(at, i)
		}
	}
	err = s.Peek(ctx, stored, ledger.KindStored, func(i int, p registry.Peeked) {
		switch {
		case p.Record != nil:
			read[at[i]] = s.describeStored(p.Name, p.Record)
		case p.Err != nil: // it must not hide the others
			read[at[i]] = &Description{Name: p.Name, Source: registry.SourceStored, Settings: new(config.Messenger), unusable: true,
				Warnings: []string{"this messenger cannot be read, and its requests are answered with keys_unavailable: " + p.Err.Error()}}
		}
	})
	for _, d := range read {
		if d != nil {
			list = append(list, *d)
		}
	}
	return list, err
}

// A row is a messenger in a list that is filtered or sorted.
type row struct{ registry.Summary }

// cursor returns the place of a row in the list, which does not depend on what else is in it.
func (r *row) cursor(sort string) string {
	if sort == "changed" {
		return r.Changed.UTC().Format(time.RFC3339Nano) + " " + r.Name
	}
	return r.Name
}

// compareRows orders rows: by name, or the last change first.
func compareRows(sort string) func(a, b row) int {
	return func(a, b row) int {
		if sort == "changed" && !a.Changed.Equal(b.Changed) {
			return b.Changed.Compare(a.Changed)
		}
		return strings.Compare(a.Name, b.Name)
	}
}

// rowAt returns a row with this cursor.
func rowAt(cursor, sort string) (row, error) {
	if sort != "changed" {
		return row{registry.Summary{Name: cursor}}, nil
	}
	at, name, _ := strings.Cut(cursor, " ")
	changed, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return row{}, apierror.New(http.StatusBadRequest, "after is not a cursor of this list; begin with the first page")
	}
	return row{registry.Summary{Name: name, Changed: changed}}, nil
}

// listSorted is list with filters or another order. All messengers whose names match are looked at.
func (s *Service) listSorted(ctx context.Context, q ListQuery, view nameindex.View) (*MessengerPage, error) {
	rows, err := s.rows(ctx, q, view)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, compareRows(q.Sort))
	page := &MessengerPage{Messengers: []Description{}, Count: len(rows)}
	if q.After != "" {
		last, err := rowAt(q.After, q.Sort)
		if err != nil {
			return nil, err
		}
		begin, _ := slices.BinarySearchFunc(rows, last, func(r, last row) int { return cmp.Or(compareRows(q.Sort)(r, last), -1) })
		rows = rows[begin:]
	}
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		page.Next = rows[q.Limit-1].cursor(q.Sort)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	described, err := s.describeAll(ctx, names) // those that were not deleted meanwhile
	page.Messengers = append(page.Messengers, described...)
	return page, err
}

// rows returns the messengers that match a query, in no order.
func (s *Service) rows(ctx context.Context, q ListQuery, view nameindex.View) (rows []row, err error) {
	wanted := func(r row) bool {
		return (q.Method == "" || q.Method == r.Method) && (q.Mode == "" || q.Mode == string(r.Mode))
	}
	if q.Source != registry.SourceStored {
		for _, name := range s.Names() {
			m := s.Messengers[name]
			r := row{registry.Summary{Name: name, Method: m.Method(), Mode: m.Mode.Or(config.ModeRequired)}}
			if strings.Contains(name, q.Search) && wanted(r) {
				rows = append(rows, r)
			}
		}
	}
	if q.Source == registry.SourceConfig {
		return rows, nil
	}
	var names []string
	for name := range view.Matching("", q.Search) {
		if s.Messengers[name] != nil {
			continue
		}
		if names = append(names, name); len(names) > registry.MaxSorted {
			return nil, ErrTooMany
		}
	}
	summaries, err := s.Summaries(ctx, names)
	for _, summary := range summaries {
		if r := (row{summary}); !summary.Absent && wanted(r) {
			rows = append(rows, r)
		}
	}
	return rows, err
}

// ReadListQuery reads the query of a URL.
func ReadListQuery(values url.Values) ListQuery {
	q := ListQuery{After: values.Get("after"), Search: values.Get("search"), Method: values.Get("method"), Mode: values.Get("mode"), Source: values.Get("source"), Sort: values.Get("sort"), State: values.Get("state")}
	if limit := values.Get("limit"); limit != "" {
		var err error
		if q.Limit, err = strconv.Atoi(limit); err != nil || q.Limit == 0 {
			q.Limit = -1 // check says what is accepted
		}
	}
	return q
}
