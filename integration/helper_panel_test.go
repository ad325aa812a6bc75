package integration

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// A panelUser sends requests to a panel as a browser of that operator does.
type panelUser struct {
	g    *gateway
	path string // where the panel is mounted
	name string // of the operator; "" for nobody
}

// startPanel runs a gateway with two panels and a chat: /panel is for operator and shows everything, /own is for everyone
// and shows the messenger that has the user's name, and /<messenger>/… is the chat. Every test has a storage of its own.
func startPanel(t testing.TB, up *upstream, messengers string) *gateway {
	t.Helper()
	site := `
	handle_path /panel* {
		basic_auth bcrypt { 
			operator HASH
		}
		messenger_panel {
			sign_out https://login.example.com/logout
			help /help
		}
	}
	handle /own* {
		basic_auth bcrypt {
			acme HASH
			other HASH
			Not-A-Name HASH
		}
		messenger_panel {http.auth.user.id}
	}
	handle {
		messenger_auth {path.0} {
			token_from header Authorization Bearer
			token_from websocket_protocol chat.token
		}
		`
	site += map[bool]string{true: "reverse_proxy UPSTREAM", false: "respond ok"}[up != nil] + "\n}"
	return start(t, up, messengers, strings.ReplaceAll(site, "HASH", panelHash))
}

func (g *gateway) panelOperator() panelUser { return panelUser{g, "/panel", "operator"} }

func (g *gateway) owner(name string) panelUser { return panelUser{g, "/own/", name} }

// get asks for a page by its query.
func (u panelUser) get(query string, headers ...string) answer {
	return u.send(http.MethodGet, query, nil, headers...)
}

// post sends a form of a page.
func (u panelUser) post(query string, fields url.Values, headers ...string) answer {
	return u.send(http.MethodPost, query, fields, append([]string{"Sec-Fetch-Site: same-origin"}, headers...)...)
}

// send sends a request. A header line without a value takes the header away.
func (u panelUser) send(method, query string, fields url.Values, headers ...string) answer {
	u.g.t.Helper()
	r, err := http.NewRequest(method, u.g.url+u.path+query, strings.NewReader(fields.Encode()))
	if err != nil {
		u.g.t.Fatal(err)
	}
	if fields != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if u.name != "" {
		r.SetBasicAuth(u.name, panelPassword)
	}
	for _, line := range headers {
		switch name, value, _ := strings.Cut(line, ": "); {
		case name == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(strings.TrimSuffix(name, ":"))
		default:
			r.Header.Set(name, value)
		}
	}
	resp, err := plainClient.Do(r)
	if err != nil {
		u.g.t.Fatalf("%s %s: %v", method, query, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		u.g.t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, string(body)}
	if !strings.Contains(a.body, `id="secret"`) { // the one page that may show a secret
		search.add("page of the panel", append(headerText(a.header), body...))
	}
	return a
}

// revision is what the forms of a page carry.
func (a answer) revision(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(`name="revision" value="([^"]*)"`).FindStringSubmatch(a.body)
	if found == nil {
		t.Fatalf("status %d: the page has no revision:\n%s", a.status, a.text())
	}
	return found[1]
}

// secret is the shared token that a page shows.
func (a answer) secret(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(`id="secret"[^>]*>([^<]+)<`).FindStringSubmatch(a.body)
	if a.status != 200 || found == nil {
		t.Fatalf("status %d: the page shows no shared token:\n%s", a.status, a.text())
	}
	search.secret(found[1])
	return found[1]
}

// text is what a page says, without its markup.
func (a answer) text() string {
	text := markup.ReplaceAllString(a.body, " ")
	return html.UnescapeString(strings.Join(strings.Fields(text), " "))
}

// markup is what a browser does not show.
var markup = regexp.MustCompile(`(?s)<(head|script|style)\b.*?</(head|script|style)>|<[^>]*>`)

// says checks what a page says.
func (a answer) says(t testing.TB, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("got status %d, want %d: %s", a.status, status, a.text())
		return
	}
	said := a.text()
	for _, text := range texts {
		if !strings.Contains(said, text) {
			t.Errorf("the page does not say %q: %s", text, said)
		}
	}
}

// fields are those of the settings form, as a browser sends it.
func fields(pairs ...string) url.Values {
	f := url.Values{"identity_key": {"identity"}, "method": {"shared_token"}, "require_claims": {"exp"}, "mode": {"required"}}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = []string{pairs[i+1]}
	}
	return f
}

// create creates a stored messenger with a generated shared token, and returns the token.
func (u panelUser) create(name string) string {
	u.g.t.Helper()
	if a := u.post("?page=new", fields("name", name)); a.status != 303 || a.header.Get("Location") != "?done=created&messenger="+name+"&page=keys" {
		u.g.t.Fatalf("creating %s: %d %v %s", name, a.status, a.header, a.text())
	}
	return u.change(name, "generate").secret(u.g.t)
}

// change sends a form of the page Keys with the revision that this page has now. A rotation is confirmed.
func (u panelUser) change(name, action string, pairs ...string) answer {
	u.g.t.Helper()
	f := url.Values{"action": {action}, "revision": {u.get("?page=keys&messenger=" + name).revision(u.g.t)}}
	if action == "rotate" {
		f.Set("confirm", "yes")
	}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = []string{pairs[i+1]}
	}
	return u.post("?page=keys&messenger="+name, f)
}
