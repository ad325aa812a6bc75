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
	"sync"
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

	// maxLooked bounds the names that are examined for one answer. The index also has names of deleted messengers, which are
	// not listed.
	maxLooked = 5 * MaxListed

	// minBatch is how many messengers are read from the storage together, at least.
	minBatch = 64

	// sortChanged is the one order other than by name.
	sortChanged = "changed"

	// listTime is how long one answer may take, because the storage may be slow.
	listTime = 20 * time.Second
)

// A ListQuery says which messengers a list has, and in which order.
type ListQuery struct {
	After  string // the cursor of the page before; "" for the first page
	Limit  int    // how many stored messengers a page has at most, and how many configured ones; 0 for MaxListed
	Search string // a part of the name

	// Filters, and an order other than by name; "" for none. They fail with ErrTooMany for more than registry.MaxSorted names.
	Method, Mode, Source string
	Sort                 string // sortChanged: the last change first

	State string // "true": with the state of each messenger, which costs a read of the storage for many of them
}

// A MessengerPage is one page of a list.
type MessengerPage struct {
	Messengers []*Description
	Next       string // the cursor of the next page; "" if this is the last one
}

var (
	// ErrTooMany is the error if there are too many messengers to filter or sort.
	ErrTooMany = apierror.New(http.StatusConflict, fmt.Sprintf("there are more than %d messengers, which is the most that can be filtered or sorted; search for a part of the name first", registry.MaxSorted))
	errSlow    = apierror.New(http.StatusServiceUnavailable, "the storage has not answered in time; try again, with fewer messengers (limit)")
)

// sorted reports whether the messengers have to be read before it is known which of them are on the page.
func (q *ListQuery) sorted() bool {
	return q.Method != "" || q.Mode != "" || q.Source != "" || q.Sort != ""
}

// check normalizes the query, and returns an error for values that are not allowed.
func (q *ListQuery) check() error {
	if q.Limit = cmp.Or(q.Limit, MaxListed); q.Limit < 1 || q.Limit > MaxListed {
		return apierror.New(http.StatusBadRequest, fmt.Sprintf("limit is not a number from 1 to %d", MaxListed))
	}
	q.Search = strings.ToLower(strings.TrimSpace(q.Search))
	for _, p := range listParameters() {
		if p.values != nil && *p.text(q) != "" && !slices.Contains(p.values, *p.text(q)) {
			return apierror.New(http.StatusBadRequest, p.name+" is not one of: "+strings.Join(p.values, ", "))
		}
	}
	return nil
}

// List returns a page of messengers. By default the configured ones come first, then the stored ones, each sorted by name.
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
	view, err := s.StoredNames(ctx) // before taking a slot, because all callers share one reading of the names
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

// listByName is list in the order of names, without filters. A page has at most q.Limit configured messengers. After the last
// configured one it has at most q.Limit stored ones.
func (s *Service) listByName(ctx context.Context, q ListQuery, view nameindex.Index) (*MessengerPage, error) {
	page := &MessengerPage{Messengers: []*Description{}}
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
			page.Messengers = append(page.Messengers, s.describeConfigured(name))
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
		if len(names) == max(full-len(page.Messengers), minBatch) {
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

// afterConfigured is the prefix of a cursor that points to a configured messenger. It cannot begin a name, which has no colon.
const afterConfigured = "config:"

// describeConfigured describes a messenger of the configuration.
func (s *Service) describeConfigured(name string) *Description {
	return describe(name, registry.SourceConfig, s.Messengers[name].Written, nil)
}

// describeAll describes the messengers of these names, in their order. Names without a messenger are skipped.
func (s *Service) describeAll(ctx context.Context, names []string) ([]*Description, error) {
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
	err := s.Peek(ctx, stored, ledger.KindStored, func(i int, p registry.Peeked) {
		switch {
		case p.Record != nil:
			read[at[i]] = s.describeStored(p.Name, p.Record)
		case p.Err != nil: // one unreadable messenger must not hide the others
			read[at[i]] = &Description{Name: p.Name, Source: registry.SourceStored, Settings: new(config.Messenger), unusable: true,
				Warnings: []string{"this messenger cannot be read, and its requests are answered with keys_unavailable: " + p.Err.Error()}}
		}
	})
	return slices.DeleteFunc(read, func(d *Description) bool { return d == nil }), err
}

// cursorOf returns the position of a row in the list. It stays valid when other rows are added or removed.
func cursorOf(row registry.Summary, sort string) string {
	if sort == sortChanged {
		return row.Changed.UTC().Format(time.RFC3339Nano) + " " + row.Name
	}
	return row.Name
}

// compareRows orders rows: by name, or the last change first.
func compareRows(sort string) func(a, b registry.Summary) int {
	return func(a, b registry.Summary) int {
		if sort == sortChanged && !a.Changed.Equal(b.Changed) {
			return b.Changed.Compare(a.Changed)
		}
		return strings.Compare(a.Name, b.Name)
	}
}

// rowAt returns a row with this cursor, to compare other rows with.
func rowAt(cursor, sort string) (registry.Summary, error) {
	if sort != sortChanged {
		return registry.Summary{Name: cursor}, nil
	}
	at, name, _ := strings.Cut(cursor, " ")
	changed, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return registry.Summary{}, apierror.New(http.StatusBadRequest, "after is not a cursor of this list; begin with the first page")
	}
	return registry.Summary{Name: name, Changed: changed}, nil
}

// listSorted is list with filters or another order. It examines all messengers whose names match.
func (s *Service) listSorted(ctx context.Context, q ListQuery, view nameindex.Index) (*MessengerPage, error) {
	rows, err := s.rows(ctx, q, view)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, compareRows(q.Sort))
	page := &MessengerPage{Messengers: []*Description{}}
	if q.After != "" {
		last, err := rowAt(q.After, q.Sort)
		if err != nil {
			return nil, err
		}
		begin, _ := slices.BinarySearchFunc(rows, last, func(r, last registry.Summary) int { return cmp.Or(compareRows(q.Sort)(r, last), -1) })
		rows = rows[begin:]
	}
	if len(rows) > q.Limit {
		rows = rows[:q.Limit]
		page.Next = cursorOf(rows[q.Limit-1], q.Sort)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Name)
	}
	described, err := s.describeAll(ctx, names) // without those that were deleted meanwhile
	page.Messengers = append(page.Messengers, described...)
	return page, err
}

// rows returns the messengers that match a query, in no order.
func (s *Service) rows(ctx context.Context, q ListQuery, view nameindex.Index) (rows []registry.Summary, err error) {
	wanted := func(r registry.Summary) bool {
		return (q.Method == "" || q.Method == r.Method) && (q.Mode == "" || q.Mode == string(r.Mode))
	}
	if q.Source != registry.SourceStored {
		for _, name := range s.Names() {
			m := s.Messengers[name]
			r := registry.Summary{Name: name, Method: m.Method(), Mode: m.Mode.Or(config.ModeRequired)}
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
		if !summary.Absent && wanted(summary) {
			rows = append(rows, summary)
		}
	}
	return rows, err
}

// A listParameter is what the query of a URL can have for a list.
type listParameter struct {
	name   string
	text   func(q *ListQuery) *string // its place; nil for limit, which is a number
	values []string                   // nil for any
}

// listParameters are all of them. They are made for the first list, because most programs with this module show none.
var listParameters = sync.OnceValue(func() []listParameter {
	return []listParameter{
		{"after", func(q *ListQuery) *string { return &q.After }, nil},
		{"limit", nil, nil},
		{"search", func(q *ListQuery) *string { return &q.Search }, nil},
		{"method", func(q *ListQuery) *string { return &q.Method }, config.Values(config.Methods)},
		{"mode", func(q *ListQuery) *string { return &q.Mode }, config.Values(config.Modes)},
		{"source", func(q *ListQuery) *string { return &q.Source }, []string{registry.SourceConfig, registry.SourceStored}},
		{"sort", func(q *ListQuery) *string { return &q.Sort }, []string{sortChanged}},
		{"state", func(q *ListQuery) *string { return &q.State }, []string{"true"}},
	}
})

// listNames returns the names of all parameters.
func listNames() (names []string) {
	for _, p := range listParameters() {
		names = append(names, p.name)
	}
	return names
}

// ReadListQuery reads the query of a URL.
func ReadListQuery(values url.Values) (q ListQuery) {
	for _, p := range listParameters() {
		if p.text != nil {
			*p.text(&q) = values.Get(p.name)
		}
	}
	if limit := values.Get("limit"); limit != "" {
		var err error
		if q.Limit, err = strconv.Atoi(limit); err != nil || q.Limit == 0 {
			q.Limit = -1 // check says what is accepted
		}
	}
	return q
}
