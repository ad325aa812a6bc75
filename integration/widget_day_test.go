package integration

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// A chatState is what one connection of the page has done so far.
type chatState struct {
	Opened, Sent, Waiting int
	Heard                 []int
	Closed                []string
}

// A page chats through a day, whose hours pass at once at the site and the gateway, with tokens of a few seconds, over sockets and
// event streams, with tokens and with tickets. The gateway restarts, the network is gone for a minute, and a logout in another window
// ends it all. Every numbered message arrives exactly once, and no text of the page has a part of a token in it.
func TestWidgetChatsThroughADay(t *testing.T) {
	if !alone(t) {
		return
	}
	site, up := newDaySite(t), newDayBackend(t)
	clock, variable := newClock(t)
	key := write(t, "secret", []byte(site.secret))
	n := newNode(t, caddyBinary(t), up.upstream, "storage file_system DIR/storage\nmessenger support {\n identity_key identity\n shared_token {file."+key+"}\n clock_skew 2s\n allowed_origin "+site.url+"\n}",
		"messenger_auth {\n token_from header Authorization Bearer\n token_from websocket_protocol jwt\n token_from ticket ticket\n ticket_path /ticket\n logout_path /logout\n websocket_rejection close\n cors\n}\nreverse_proxy UPSTREAM")
	n.env = append(n.env, variable)
	n.run()
	line := newBrokenLine(t, n.addr)
	tab := newBrowser(t, anyChromium)
	browse(t, tab, chromedp.Navigate(site.url+"/?gateway="+url.QueryEscape("http://"+line.addr)))
	report := func() (chats map[string]chatState) {
		if err := json.Unmarshal([]byte(evaluate[string](t, tab, "window.report?.() ?? '{}'")), &chats); err != nil {
			t.Fatal(err)
		}
		return chats
	}
	published := 0
	// chat sends messages in both directions, and waits until all of them have arrived.
	chat := func(what string, meanwhile func()) {
		t.Helper()
		evaluate[string](t, tab, "send(10)")
		up.publish(10)
		published += 10
		meanwhile()
		var chats map[string]chatState
		defer func() {
			if t.Failed() {
				t.Logf("%s: %+v", what, chats)
			}
		}()
		patiently(t, what+": all messages have arrived", func() bool {
			chats = report()
			for _, c := range chats {
				if c.Waiting > 0 || c.Sent == 0 && len(c.Heard) < published {
					return false
				}
			}
			return len(chats) == 4
		})
	}
	// reopened does something that ends all connections, and waits until each of them is open again.
	reopened := func(what string, end func()) {
		t.Helper()
		before := report()
		end()
		patiently(t, what+": all connections are open again", func() bool {
			for name, c := range report() {
				if c.Opened <= before[name].Opened {
					return false
				}
			}
			return true
		})
	}
	eventually(t, "the page is there", func() bool { return evaluate[bool](t, tab, "window.ready === true") })
	hours := soak(40)/2 + 4
	for hour := range hours {
		ahead := time.Duration(hour+1) * 24 * time.Hour / time.Duration(hours)
		chat("an hour", func() {
			clock.set(ahead)
			site.set(ahead)
		})
	}
	chat("a restart", func() {
		reopened("a restart", func() {
			n.kill()
			n.run()
		})
	})
	chat("a minute without the network", func() {
		reopened("a minute without the network", func() {
			line.set(true)
			evaluate[string](t, tab, "send(10)")
			up.publish(10)
			published += 10
			time.Sleep(3 * time.Second) // a minute, at the pace of the page
			line.set(false)
			evaluate[bool](t, tab, "dispatchEvent(new Event('online'))")
		})
	})
	other := newBrowser(t, anyChromium)
	browse(t, other, chromedp.Navigate(site.url+"/other"))
	site.mu.Lock()
	site.loggedOut = true
	site.mu.Unlock()
	if status := evaluate[int](t, other, "fetch('/token?again').then((response) => response.text()).then((token) => fetch('http://"+line.addr+
		"/logout', { method: 'POST', headers: { Authorization: 'Bearer ' + token.trim() } })).then((response) => response.status)"); status != 204 {
		t.Fatalf("the logout: %d", status)
	}
	patiently(t, "everything has ended", func() bool {
		for _, c := range report() {
			last := c.Closed[len(c.Closed)-1]
			if !strings.HasSuffix(last, " false") && last != "0 token_unavailable true" {
				return false
			}
		}
		return n.connections().Open == 0
	})

	checkMessages(t, up, report(), published)
	checkTexts(t, site, evaluate[string](t, tab, "everything()"))
}

// checkMessages checks that every message has arrived once. Events are in order. Messages that were not acknowledged when a socket broke
// are sent again by the page, behind those that waited for the new one.
func checkMessages(t *testing.T, up *dayBackend, chats map[string]chatState, published int) {
	t.Helper()
	up.mu.Lock()
	defer up.mu.Unlock()
	for name, c := range chats {
		want := published
		if strings.HasSuffix(name, "socket") {
			want = c.Sent
			for number := range c.Sent {
				if up.took[name][number] == 0 {
					t.Errorf("%s: message %d has not arrived", name, number)
				}
			}
		}
		if len(c.Heard) != want || c.Opened < 3 { // at first, after the restart, and after the network was gone
			t.Errorf("%s: opened %d times, got %d of %d", name, c.Opened, len(c.Heard), want)
		}
		if strings.HasSuffix(name, "socket") {
			slices.Sort(c.Heard)
		}
		for i, number := range c.Heard {
			if number != i {
				t.Errorf("%s: number %d is %d", name, i, number)
				break
			}
		}
	}
}

// checkTexts checks that nothing of a token or a ticket is in what the page could write down.
func checkTexts(t *testing.T, site *daySite, texts string) {
	t.Helper()
	if len(texts) < 1000 || !strings.Contains(texts, "token_revoked") {
		t.Errorf("the texts of the page are %s", texts)
	}
	site.mu.Lock()
	defer site.mu.Unlock()
	for _, token := range site.tokens {
		for _, part := range strings.Split(token, ".") {
			if strings.Contains(texts, part[:20]) {
				t.Fatalf("a part of a token is in the texts of the page:\n%s", texts)
			}
		}
	}
	if strings.Contains(texts, "ticket=") {
		t.Errorf("a ticket is in the texts of the page:\n%s", texts)
	}
}
