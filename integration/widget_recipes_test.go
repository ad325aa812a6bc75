package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The documentation's pages with messenger-auth.js, as they are there, behind the Caddyfile of the same section and on another origin: a
// picture, a download, event streams in two ways and a socket. Each reaches the backend as the contact, and nothing of a ticket
// does. The commands for a native client do the same.
func TestDocsRecipesWithTickets(t *testing.T) {
	if !alone(t) {
		return
	}
	up := new(upstream)
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			up.serve(w, r)
			return
		case r.URL.Path == "/events":
			w.Header().Set("Content-Type", "text/event-stream")
		case r.URL.Path == "/files/8":
			w.Header().Set("Content-Disposition", "attachment")
		}
		up.mu.Lock()
		up.seen = append(up.seen, received{r.Method, r.RequestURI, r.Header.Clone(), nil, ""})
		up.mu.Unlock()
		_, _ = fmt.Fprint(w, "data: hello\n\n")
		if r.URL.Path == "/events" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	sections := []string{"Tickets", "messenger-auth.js"}
	scripts := []string{docsBlock(t, "connections", sections[0], "js"), docsBlock(t, "connections", sections[1], "js")}
	token := func() string {
		now := time.Now().Unix()
		return sign(rsaKey(0), claims{"identity": "mark", "iat": now, "exp": now + 600})
	}
	gateway := ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /page/{number}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		script := scripts[0]
		if r.PathValue("number") == "1" {
			script = scripts[1]
		}
		script = strings.NewReplacer("./messenger", "/messenger", "https://chat.example.com", gateway, "wss://chat.example.com", strings.Replace(gateway, "http", "ws", 1)).Replace(script)
		_, _ = fmt.Fprintf(w, "<!doctype html><img><script type=module>window.heard = ''\nconsole.log = (...all) => (heard += all.join(' ') + '\\n')\n%s</script>", script)
	})
	mux.HandleFunc("GET /messenger-auth.min.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, widgetFolder+"/messenger-auth.min.js")
	})
	mux.HandleFunc("POST /chat-token", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, token()) })
	site := httptest.NewServer(mux)
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	g := &kitchen{newGateway(t, up, "http://"), up, gatewayFolder(t), write(t, "support.pem", publicPEM(rsaKey(0)))}
	gateway = g.url
	load := func(heading string) {
		t.Helper()
		g.loadText(t, docsBlock(t, "connections", heading, "caddyfile"), "https://www.example.com", site.URL)
	}
	load(sections[0])
	arrived := func(want ...string) {
		t.Helper()
		var got []string
		patiently(t, fmt.Sprintf("the backend gets %q", want), func() bool {
			for _, r := range up.take() {
				got = append(got, r.uri)
				if r.header.Get("X-Contact-Identity") != "mark" || strings.Contains(fmt.Sprint(r.uri, r.header), "ticket=") {
					t.Errorf("the backend got %+v", r)
				}
			}
			slices.Sort(got)
			return len(got) >= len(want)
		})
		expect(t, "the backend", got, want...)
	}
	tab := newBrowser(t, anyChromium)
	browse(t, tab, chromedp.Navigate(site.URL+"/page/0"))
	arrived("/events", "/events", "/files/7", "/files/8")
	patiently(t, "both streams are read", func() bool {
		heard := evaluate[string](t, tab, "heard")
		return strings.Contains(heard, "events hello") && strings.Contains(heard, "EventSource hello")
	})
	browse(t, tab, chromedp.Navigate("about:blank")) // whose streams would open again in the middle
	load(sections[1])
	browse(t, tab, chromedp.Navigate(site.URL+"/page/1"))
	arrived("/events", "/socket")
	patiently(t, "the socket and the stream are read", func() bool {
		heard := evaluate[string](t, tab, "heard")
		return strings.Contains(heard, "connected") && strings.Contains(heard, "message hello") && strings.Count(heard, "hello") >= 2
	})

	requireTool(t, "curl")
	for _, block := range docsBlocks(t, "sh") {
		if !strings.Contains(block, "/ticket") {
			continue
		}
		cmd := exec.Command("bash", "-ec", strings.ReplaceAll(block, "https://chat.example.com", g.url))
		cmd.Env = append(os.Environ(), "TOKEN="+token())
		if out, err := command(".", cmd); err != nil || out != "data: hello\n\n" {
			t.Errorf("a native client: %v\n%s", err, out)
		}
		arrived("/files/7")
	}
}
