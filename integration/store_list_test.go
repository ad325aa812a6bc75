package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// listed are the names of a page of the list, with where the next page is; "" if this is the last one.
func (o *operator) listed(query string) (names []string, next string) {
	o.t.Helper()
	a := o.want(http.StatusOK, http.MethodGet, "messengers?"+query, nil)
	var list []described
	decode(o.t, a.body, &list)
	for _, m := range list {
		names = append(names, m.Name)
	}
	link, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "</messenger/messengers?"), ">")
	return names, link
}

// allListed are the names of all pages.
func (o *operator) allListed(query string) (names []string) {
	o.t.Helper()
	for pages := 0; ; pages++ {
		page, next := o.listed(query)
		if names = append(names, page...); next == "" {
			return names
		}
		if query = next; pages > 1000 {
			o.t.Fatal("the list does not end")
		}
	}
}

// The list is searched, filtered, sorted and paged: by the admin API, and the same on the pages of the panel.
func TestMessengersAreListedPageByPage(t *testing.T) {
	if !alone(t) {
		return
	}
	template := templateMessenger(t)
	g := startPanel(t, nil, "messenger support {\n identity_key identity\n shared_token\n}")
	o, u := g.operator(), g.panelOperator()
	var stored []string
	for i := range 60 {
		stored = append(stored, fmt.Sprintf("site-%02d", i))
	}
	template.copyTo(t, filepath.Join(filepath.Dir(g.log), "storage"), stored)
	for i := 7; i < 60; i += 10 {
		o.put(stored[i], map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0)))}}, "mode": "report"})
	}
	all := append([]string{"support"}, stored...) // what is configured comes first
	for query, want := range map[string][]string{
		"":                             all,
		"limit=7":                      all,
		"search=-3&limit=4":            stored[30:40],
		"search=SUPP":                  {"support"},
		"search=%20site-59%0A":         {"site-59"},
		"after=support":                nil,
		"after=config:support":         stored,
		"after=config:zz&limit=9":      stored,
		"search=nothing":               nil,
		"method=public_key":            {stored[7], stored[17], stored[27], stored[37], stored[47], stored[57]},
		"mode=report&limit=2":          {stored[7], stored[17], stored[27], stored[37], stored[47], stored[57]},
		"mode=report&search=7&limit=2": {stored[7], stored[17], stored[27], stored[37], stored[47], stored[57]},
		"source=config":                {"support"},
		"source=stored&limit=9":        stored,
		"after=site-57":                stored[58:],
		"after=site-57x&limit=1":       stored[58:],
		"after=zz":                     nil,
	} {
		if got := o.allListed(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	o.put(stored[20], generated)
	if got := o.allListed("sort=changed&limit=5"); len(got) != 61 || got[0] != stored[20] || got[1] != stored[57] || got[60] != "support" {
		t.Errorf("by the last change: %v", got)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "method=none", "mode=none", "source=none", "sort=none", "sort=changed&after=here"} {
		o.refused(400, "GET", "messengers?"+query, nil)
	}
	u.get("").says(t, 200, "site-49", "Next page")
	if a := u.get(""); strings.Contains(a.text(), "site-50") || strings.Contains(a.text(), "First page") {
		t.Errorf("the first page is %s", a.text())
	}
	u.get("?after=site-49").says(t, 200, "site-59", "First page")
	u.get("?search=site-1&mode=report").says(t, 200, "site-17", "Filter and sort")
	if a := u.get("?search=site-1&mode=report"); strings.Contains(a.text(), "site-18") || strings.Contains(a.text(), "site-27") {
		t.Errorf("a filtered page is %s", a.text())
	}
	u.get("?search="+url.QueryEscape(`"><script>`)).says(t, 200, "No messenger found", "Show all messengers")
	u.get("?mode=none").says(t, 400, "Mode is not one of")
	if a := g.owner("acme").get("?search=site"); strings.Contains(a.text(), "site-1") {
		t.Errorf("an owner finds others: %s", a.text())
	}
	tryListCommand(t, g, all)
}

func tryListCommand(t *testing.T, g *gateway, all []string) {
	t.Helper()
	a := &administrator{newShell(t), []string{"--address", "unix/" + g.sock}}
	var list []described
	decode(t, a.want(0, "[", "", "list", "--json").out, &list)
	if len(list) != len(all) {
		t.Errorf("list --json has %d messengers, want %d", len(list), len(all))
	}
	if out := a.want(0, "site-17", "", "list", "--search", "site-1", "--mode", "report").out; strings.Contains(out, "site-18") || strings.Count(out, "MESSENGER") != 1 {
		t.Errorf("list --search: %s", out)
	}
	a.want(0, "no messengers", "", "list", "--search", "nothing")
	if out := a.want(0, "[]", "", "list", "--search", "nothing", "--json").out; !json.Valid([]byte(out)) {
		t.Errorf("list --json of nothing: %s", out)
	}
	a.want(1, "sort is not one of", "", "list", "--sort", "size")
	a.want(1, "name the messenger; these exist: support, site-00", "", "keys")
}

// A messengerTemplate has the values of a stored messenger by what follows its name in their keys. They were written by a gateway
// that has ended: no other one writes to the same keys.
type messengerTemplate map[string][]byte

func templateMessenger(t testing.TB) messengerTemplate {
	t.Helper()
	folder := t.TempDir()
	start(t, nil, sealedOptions(folder), sealedSite).operator().put("acme", generated)
	template, values := make(messengerTemplate), files(t, folder)
	for _, key := range factKeys(values, "acme") {
		template[strings.TrimPrefix(key, "messenger/acme/")] = values[key]
	}
	return template
}

// copyTo makes messengers in the folder of a storage.
func (m messengerTemplate) copyTo(t testing.TB, folder string, names []string) {
	t.Helper()
	for _, name := range names {
		for key, value := range m {
			file := filepath.Join(folder, "messenger", name, filepath.FromSlash(key))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, value, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// While messengers are created and deleted, a client that goes from page to page sees each of the other messengers once.
func TestPagingIsStableDuringChanges(t *testing.T) {
	template, folder := templateMessenger(t), t.TempDir()
	var names, want []string
	for i := range soak(4000) {
		names = append(names, fmt.Sprintf("many%d", i))
		if i%3 != 0 {
			want = append(want, names[i])
		}
	}
	template.copyTo(t, folder, names)
	o := start(t, nil, sealedOptions(folder), sealedSite).operator()
	slices.Sort(want)
	var got []string
	for query, n := fmt.Sprintf("limit=%d", min(40, len(names)/10)), 0; query != ""; n += 3 {
		var page []string
		page, query = o.listed(query)
		for _, name := range page {
			if _, found := slices.BinarySearch(want, name); found {
				got = append(got, name)
			}
		}
		var all sync.WaitGroup // names that are not waited for come and go
		all.Go(func() { _, _ = o.send("DELETE", fmt.Sprintf("messengers/many%d", n), nil) })
		all.Go(func() { _, _ = o.send("PUT", fmt.Sprintf("messengers/new%d", n), generated) })
		all.Wait()
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d names, want %d, each once and in their order", len(got), len(want))
	}
	if names := o.allListed("search=new"); len(names) < 5 || !slices.IsSorted(names) {
		t.Errorf("what was created meanwhile: %v", names)
	}
}

// A Caddyfile with hundreds of messengers does not make one page of them.
func TestConfiguredMessengersArePaged(t *testing.T) {
	var messengers strings.Builder
	for _, name := range []string{"e", "b", "d", "a", "c"} {
		messengers.WriteString("messenger " + name + " {\n identity_key identity\n shared_token\n}\n")
	}
	g := start(t, nil, messengers.String(), "respond ok")
	o := g.operator()
	for _, name := range []string{"ab", "x", "y", "z"} {
		o.put(name, generated)
	}
	for query, want := range map[string][]string{"limit=2": {"a b", "c d", "e ab x", "y z"}, "limit=5": {"a b c d e ab x y z"}, "limit=1&search=b": {"b ab"}, "limit=1&search=e": {"e"}} {
		var pages []string
		for next := query; next != ""; {
			var names []string
			names, next = o.listed(next)
			pages = append(pages, strings.Join(names, " "))
		}
		if !slices.Equal(pages, want) {
			t.Errorf("%s: got %q, want %q", query, pages, want)
		}
	}
}
