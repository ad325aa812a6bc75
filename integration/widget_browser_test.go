package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A widgetPage is what the browser shows, and what its widget has done so far.
type widgetPage struct {
	t   *testing.T
	ctx context.Context
}

type widget struct {
	Opened, Tokens, Sent, Open int
	Closed                     []string
	Text                       string
}

// openPage opens the widget's page on the site, with a browser of its own.
func openPage(t *testing.T, site, socket string) *widgetPage {
	t.Helper()
	ctx := newBrowser(t, anyChromium)
	if err := chromedp.Do(ctx, chromedp.Navigate(site+"/?socket="+url.QueryEscape(socket))); err != nil {
		t.Fatalf("opening the page: %v", err)
	}
	return &widgetPage{t, ctx}
}

// run evaluates a script and returns its result, which must be a text.
func (p *widgetPage) run(script string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return result
}

func (p *widgetPage) report() (w widget) {
	p.t.Helper()
	if err := json.Unmarshal([]byte(p.run("report()")), &w); err != nil {
		p.t.Fatal(err)
	}
	return w
}

// waitFor waits until the widget is as it should be.
func (p *widgetPage) waitFor(what string, ok func(w widget) bool) widget {
	p.t.Helper()
	var w widget
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if w = p.report(); ok(w) {
			return w
		}
	}
	p.t.Fatalf("not within a minute: %s; the widget is at %+v", what, w)
	return w
}

// newSite serves the page, the helper as it stands in the repository, and the tokens that token makes.
func newSite(t *testing.T, token func() string) string {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "testdata/widget/index.html")
	})
	mux.HandleFunc("GET /messenger-auth.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "../caddymodule/widget/messenger-auth.js")
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, token()) })
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

const widgetSite = "messenger_auth support {\n token_from websocket_protocol jwt\n websocket_rejection close\n}\nreverse_proxy UPSTREAM"

func widgetMessenger(t *testing.T, secret, origin string) string {
	key := write(t, "secret", []byte(secret))
	return "messenger support {\n identity_key identity\n shared_token {file." + key + "}\n clock_skew 2s\n allowed_origin " + origin + "\n}"
}

// A page chats through three renewals of its token, each before the old one has expired, and through a reload that closes
// its socket. All of its messages arrive.
func TestWidgetChatsThroughRenewalsAndAReload(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	secret := newSecret()
	site := newSite(t, func() string {
		now := float64(time.Now().UnixMilli()) / 1000 // a whole second less would be much of a life as short as this
		return sign(secret, claims{"identity": "mark", "iat": now, "exp": now + 3 + busy().Seconds()})
	})
	messengers := widgetMessenger(t, secret, site)
	g := start(t, up.upstream, messengers, widgetSite)
	p := openPage(t, site, "ws://"+g.addr+"/echo")
	w := p.waitFor("three renewals", func(w widget) bool { return w.Opened >= 4 })
	if len(w.Closed) > 0 {
		t.Errorf("sockets were closed on the way: %q", w.Closed)
	}
	g.load(messengers, widgetSite+"\nheader X-Reloaded 1")
	w = p.waitFor("the reconnection", func(w widget) bool { return len(w.Closed) > 0 && w.Opened >= 5 && w.Open == 0 })
	if first := w.Closed[0]; first != "1001  true" && first != "1006  true" {
		t.Errorf("the reload closed the socket with %q", w.Closed)
	}
	p.run("stopSending()")
	w = p.waitFor("an echo of every message", func(w widget) bool { return w.Open == 0 })
	for number := range w.Sent {
		if _, arrived := up.messages.Load(fmt.Sprint(number)); !arrived {
			t.Errorf("message %d of %d has not arrived", number, w.Sent)
		}
	}
	if w.Sent < 100 {
		t.Errorf("only %d messages were sent", w.Sent)
	}
}

// A page learns why its handshake was refused, and tries again only where a fresh token could help.
func TestPageShowsWhyItWasRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	var mu sync.Mutex
	life := int64(-60)
	secret := newSecret()
	site := newSite(t, func() string {
		mu.Lock()
		defer mu.Unlock()
		return sign(secret, claims{"identity": "mark", "exp": time.Now().Unix() + life})
	})
	messengers := widgetMessenger(t, secret, site)
	g := start(t, up.upstream, messengers, widgetSite)
	p := openPage(t, site, "ws://"+g.addr+"/echo")
	w := p.waitFor("the reason in the page", func(w widget) bool { return strings.Contains(w.Text, "closed: 4401 token_expired") })
	if w.Closed[0] != "4401 token_expired true" {
		t.Errorf("closed: %q", w.Closed)
	}
	up.none(t)
	mu.Lock()
	life = 600
	mu.Unlock()
	p.waitFor("the messages after a fresh token", func(w widget) bool { return w.Sent > 0 && w.Open == 0 })

	g.load(widgetMessenger(t, secret, "https://www.example.com"), widgetSite)
	w = p.waitFor("the reason in the page", func(w widget) bool { return strings.Contains(w.Text, "closed: 4403 origin_not_allowed") })
	if last := w.Closed[len(w.Closed)-1]; last != "4403 origin_not_allowed false" {
		t.Errorf("closed: %q", w.Closed)
	}
}
