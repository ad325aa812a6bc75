package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A readiness is what the admin API tells of a meter.
type readiness struct {
	Messenger, Mode string
	Since           time.Time
	Windows         []readinessWindow
}

type readinessWindow struct {
	Window                         string
	Requests, Valid, None, Invalid int
	Codes                          map[string]int
	Pass                           *float64
}

func (o *operator) readiness(name string) (r readiness) {
	o.t.Helper()
	decode(o.t, o.want(http.StatusOK, http.MethodGet, "messengers/"+name+"/readiness", nil).body, &r)
	return r
}

// compare checks what a meter says against an independent count by code, "" for valid tokens.
func (r readiness) compare(t *testing.T, counted map[string]int) {
	t.Helper()
	if len(r.Windows) != 2 || r.Windows[0].Window != "1h" || r.Windows[1].Window != "24h" {
		t.Fatalf("the windows are %+v", r.Windows)
	}
	all, bad := 0, 0
	for code, n := range counted {
		all += n
		if code != "" && code != "token_missing" {
			bad += n
		}
	}
	for _, w := range r.Windows {
		if w.Requests != all || w.Valid != counted[""] || w.None != counted["token_missing"] || w.Invalid != bad {
			t.Errorf("%s, the last %s: %d requests, %d good, %d none, %d bad; counted were %d, %d, %d, %d", r.Messenger, w.Window, w.Requests, w.Valid, w.None, w.Invalid, all, counted[""], counted["token_missing"], bad)
		}
		for code, n := range counted {
			if code != "" && w.Codes[code] != n {
				t.Errorf("%s, the last %s: %d of %s, and %d were counted", r.Messenger, w.Window, w.Codes[code], code, n)
			}
		}
		if all > 0 && (w.Pass == nil || *w.Pass != float64(counted[""])/float64(all)) {
			t.Errorf("%s, the last %s: the share is %v of %d/%d", r.Messenger, w.Window, w.Pass, counted[""], all)
		}
	}
}

// A tokenKind is a request with a known outcome.
type tokenKind struct {
	code   string // under "required"; "" if it passes
	header string // of the request
}

func tokenKinds(key any) []tokenKind {
	kinds := []tokenKind{{"token_missing", ""}, {"token_malformed", bearer("x.y.z")}, {"token_too_large", bearer(strings.Repeat("x", 9000))}}
	for i := range 20 {
		kinds = append(kinds, tokenKind{"", bearer(sign(key, valid(fmt.Sprint("contact-", i))))})
	}
	for range 3 {
		kinds = append(kinds,
			tokenKind{"signature_invalid", bearer(sign(newSecret(), valid("mark")))},
			tokenKind{"token_expired", bearer(sign(key, with(valid("mark"), claims{"exp": 1})))},
			tokenKind{"token_not_yet_valid", bearer(sign(key, with(valid("mark"), claims{"nbf": time.Now().Add(time.Hour).Unix()})))},
			tokenKind{"claim_invalid", bearer(sign(key, with(valid("mark"), claims{"exp": "tomorrow"})))},
			tokenKind{"identity_missing", bearer(sign(key, with(valid("mark"), claims{"identity": nil})))},
			tokenKind{"identity_invalid", bearer(sign(key, valid(" mark ")))})
	}
	return kinds
}

// A site owner switches enforcement on by these figures. In every mode they are what was really sent: counted here by who
// sent it, for a configured and a stored messenger, and compared with the meter, the metrics and what "required" answered.
func TestReadinessMatchesTheRequests(t *testing.T) {
	if !alone(t) {
		return
	}
	requests := soak(100_000)
	secret := newSecret()
	messengers := liveOptions
	modes := []string{"required", "optional", "report"}
	for _, mode := range modes {
		messengers += "\nmessenger in-" + mode + " {\n identity_key identity\n mode " + mode + "\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}"
	}
	g := newGateway(t, nil, "http://")
	g.unlogged = true
	g.load(messengers, "messenger_auth {path.0}\nrespond ok")
	o := g.operator()
	o.put("acme", map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "mode": "report"})
	kinds := map[string][]tokenKind{"acme": tokenKinds(o.generate("acme").Token)}
	for _, mode := range modes {
		kinds["in-"+mode] = tokenKinds(secret)
	}
	before := g.families()

	counted := make(map[string]map[string]int)
	for name := range kinds {
		counted[name] = make(map[string]int)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range requests / 4 {
				name := []string{"acme", "in-required", "in-optional", "in-report"}[rand.IntN(4)]
				kind := kinds[name][rand.IntN(len(kinds[name]))]
				status, code := sendKind(t, client, g.url+"/"+name+"/", kind)
				passes := kind.code == "" || strings.HasSuffix(name, "report") || name == "acme" || name == "in-optional" && kind.code == "token_missing"
				if passes != (status == 200) || !passes && code != kind.code {
					t.Errorf("%s: a token that is %q was answered with %d %s", name, kind.code, status, code)
					return
				}
				mu.Lock()
				counted[name][kind.code]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	after := g.families()
	for name, counts := range counted {
		r := o.readiness(name)
		r.compare(t, counts)
		label := map[bool]string{true: "stored", false: name}[name == "acme"]
		for code, n := range counts {
			if code == "" {
				code = "verified"
			}
			pairs := []string{`code="` + code + `"`, `messenger="` + label + `"`}
			if got := after.value("requests_total", pairs...) - before.value("requests_total", pairs...); got != float64(n) {
				t.Errorf("%s: %v requests with %s are counted, want %d", name, got, code, n)
			}
			for _, window := range []string{"1h", "24h"} {
				if got := after.value("readiness_requests", append(pairs, `window="`+window+`"`)...); got != float64(n) {
					t.Errorf("%s: the metric of %s has %v of %s, want %d", name, window, got, code, n)
				}
			}
		}
	}
}

func sendKind(t *testing.T, client *http.Client, url string, kind tokenKind) (status int, code string) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	if name, value, found := strings.Cut(kind.header, ": "); found {
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var problem struct{ Code string }
	_ = json.Unmarshal(body, &problem) // an answer of the site has none
	return resp.StatusCode, problem.Code
}

// The whole point of the meter: report lets everything pass, the figures say that it is time, and a switch to required
// closes no chat: with the admin API, and in the panel.
func TestSwitchingToRequiredClosesNoConnection(t *testing.T) {
	g := startPanel(t, newUpstream(t), "")
	o, u := g.operator(), g.panelOperator()
	settings := func(mode string) map[string]any {
		return map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "mode": mode, "require_claims": []string{"exp"}}
	}
	for how, switchOn := range map[string]func(name string){
		"with a PUT": func(name string) { o.put(name, settings("required")) },
		"in the panel": func(name string) {
			page := u.get("?messenger=" + name)
			page.says(t, 200, "Readiness", "Would pass", "60.00 %", "Token expired: 1 ( token_expired )")
			f := fields("mode", "required", "revision", page.revision(t))
			if a := u.confirmed(name, f); a.status != 303 {
				t.Fatalf("saving: %d %s", a.status, a.text())
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			name := map[string]string{"with a PUT": "acme", "in the panel": "globex"}[how]
			o.put(name, settings("report"))
			token := o.generate(name)
			stale := sign(token.Token, with(valid("mark"), claims{"exp": 1}))
			g.expect("200", "/"+name+"/", stale)
			var chats []*websocket.Conn
			for range 3 {
				chats = append(chats, g.openChat("/"+name+"/chat", token.signed()))
			}
			chats = append(chats, g.openAnonymous("/"+name+"/chat"))
			speak(t, "before", chats)
			o.readiness(name).compare(t, map[string]int{"": 3, "token_expired": 1, "token_missing": 1})
			switchOn(name)
			g.expect("401 token_expired", "/"+name+"/", stale)
			g.expect("200", "/"+name+"/", token.signed())
			speak(t, "after", chats)
			r := o.readiness(name) // it goes on with what it had
			if r.compare(t, map[string]int{"": 4, "token_expired": 2, "token_missing": 1}); r.Mode != "required" {
				t.Errorf("the mode is told as %s", r.Mode)
			}
		})
	}
}

func (g *gateway) openAnonymous(path string) *websocket.Conn {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, g.url+path, nil)
	if err != nil {
		g.t.Fatalf("opening a chat without a token: %v", err)
	}
	g.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// The command shows what is documented.
func TestReadinessCommand(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newShell(t)
	g, o := startLive(t, newUpstream(t))
	address := "--address=unix/" + g.sock
	if out := s.must("", "readiness", "support", address); !strings.Contains(out, "no requests") {
		t.Errorf("before any request: %s", out)
	}
	token := o.generate("support").signed()
	for range 3 {
		g.expect("200", "/", token)
	}
	g.expect("401 token_malformed", "/", "x")
	out := s.must("", "readiness", address)
	_, example, _ := strings.Cut(docsPage(t, "monitoring"), "$ caddy messenger readiness support\n")
	example, _, _ = strings.Cut(example, "```")
	shape := func(text string) (lines []string) {
		scanner := bufio.NewScanner(strings.NewReader(text))
		for scanner.Scan() {
			lines = append(lines, regexp.MustCompile(`\d[\d.:TZ-]*`).ReplaceAllString(regexp.MustCompile(`^ +\d+ `).ReplaceAllString(scanner.Text(), "N "), "N"))
		}
		return lines
	}
	want := strings.ReplaceAll(strings.Join(shape(example)[:4], "\n"), "report", "required")
	if got := strings.Join(shape(out)[:4], "\n"); got != want {
		t.Errorf("got\n%s\nand the page shows\n%s", got, want)
	}
	if !strings.Contains(out, "4 requests, of which 75.00 % would pass under required\n             3  with a valid token\n") || !strings.Contains(out, "1  token_malformed") {
		t.Errorf("got %s", out)
	}
	var r readiness
	decode(t, s.must("", "readiness", "support", "--json", address), &r)
	r.compare(t, map[string]int{"": 3, "token_malformed": 1})
	if got := s.messenger("", "readiness", "nobody", address); got.status != 3 {
		t.Errorf("for a messenger that is none: %+v", got)
	}
}
