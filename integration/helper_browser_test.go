package integration

import (
	"context"
	"encoding/base64"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Programs that are Chromium. The one that has no windows takes half the time. It has no clipboard.
var (
	wholeChromium = []string{"chromium", "chromium-browser", "google-chrome"}
	anyChromium   = append([]string{"chromium-headless-shell"}, wholeChromium...)
)

// newBrowser returns a tab of the first of the programs that there is, without a window, with cookies, storage and permissions of its
// own.
func newBrowser(t *testing.T, programs []string) context.Context {
	t.Helper()
	chromium, err := runningChromium(requireTool(t, "chromium", programs...))
	if err != nil {
		t.Fatalf("starting Chromium: %v", err)
	}
	ctx, cancelTab := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancelTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a tab in Chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute) // after the start, so that the tab outlives what it is for
	t.Cleanup(cancel)
	return ctx
}

// chromiums are the browsers that this process has started, by their programs. The tests share them, since a start takes longer than
// most of what is done in one.
var chromiums struct {
	sync.Mutex
	running map[string]context.Context
	stop    []context.CancelFunc
}

// runningChromium returns the browser of a program. It is started if it does not run.
func runningChromium(binary string) (context.Context, error) {
	chromiums.Lock()
	defer chromiums.Unlock()
	if ctx := chromiums.running[binary]; ctx != nil && ctx.Err() == nil {
		return ctx, nil
	}
	profile, err := os.MkdirTemp(sockDir, "chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(binary),
		chromedp.UserDataDir(profile),
		chromedp.NoSandbox, // root has none
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-features", "Translate,WebUIOmniboxPopup,WebUIOmniboxAimPopup"), // pages of its own, in every window
	)
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(ctx)
	chromiums.stop = append(chromiums.stop, func() {
		cancel()
		cancelAllocator()
	})
	if err := chromedp.Do(ctx); err != nil {
		return nil, err
	}
	if chromiums.running == nil {
		chromiums.running = make(map[string]context.Context)
	}
	chromiums.running[binary] = ctx
	return ctx, nil
}

// stopChromiums ends the browsers, and waits for their ends.
func stopChromiums() {
	chromiums.Lock()
	defer chromiums.Unlock()
	for _, stop := range chromiums.stop {
		stop()
	}
}

// wasLeft reports whether an action failed because the page was on its way to another one: nothing was done.
func wasLeft(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "Could not find node with given id") || strings.Contains(err.Error(), "Inspected target navigated or closed"))
}

// browse does something in the tab. It is done again if the page was left before anything was done on it: chromedp then says so,
// or waits for a node of the former page.
func browse(t *testing.T, tab context.Context, action chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 60*time.Second)
	defer cancel()
	for {
		once, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := chromedp.Do(once, action)
		again := once.Err() != nil || wasLeft(err)
		cancel()
		switch {
		case err == nil:
			return
		case !again || ctx.Err() != nil:
			t.Fatalf("in the browser: %v\n%s", err, pageText(tab))
		}
	}
}

// pageText is what the page in the tab says, with its address.
func pageText(tab context.Context) string {
	ctx, cancel := context.WithTimeout(tab, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return err.Error() // it may be on its way to another page
	}
	return text
}

// evaluate returns what an expression of the page, or the promise that it is, comes to.
func evaluate[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 60*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("in the browser: %s: %v\n%s", expression, err, pageText(tab))
	}
	return value
}

// devtools sends one command of the DevTools protocol.
func devtools[P, R any](t *testing.T, tab context.Context, cmd cdp.Command[P, R], params P) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab, 60*time.Second)
	defer cancel()
	if _, err := chromedp.Call(ctx, cmd, params); err != nil {
		t.Fatalf("in the browser: %s: %v", cmd.Method, err)
	}
}

// named returns the id of the field whose label says exactly this; number counts those of the same label from 0.
func (p *panelTab) named(label string, number int) string {
	p.t.Helper()
	id := ""
	for deadline := time.Now().Add(20 * time.Second); id == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // the page may be on its way
		id, _ = chromedp.Run(p.ctx, chromedp.Evaluate[string]("[...document.querySelectorAll('label')].filter(l => l.firstChild.textContent.trim() === "+mustJSON(label)+").map(l => l.htmlFor)["+strconv.Itoa(number)+"] ?? ''"))
	}
	if id == "" {
		p.t.Fatalf("the page has no field %q:\n%s", label, pageText(p.ctx))
	}
	return id
}

// press presses the tab key until what has the focus says this, or has this id, and then these keys.
func (p *panelTab) press(wanted, keys string) {
	p.t.Helper()
	for range 60 {
		browse(p.t, p.ctx, chromedp.KeyEvent(kb.Tab))
		if evaluate[bool](p.t, p.ctx, "[document.activeElement.id, document.activeElement.textContent.trim()].includes("+mustJSON(wanted)+")") {
			browse(p.t, p.ctx, chromedp.KeyEvent(keys))
			return
		}
	}
	p.t.Fatalf("the tab key does not lead to %q:\n%s", wanted, pageText(p.ctx))
}

// mayReadClipboard lets the test, and no page, look at what was copied.
func (p *panelTab) mayReadClipboard() {
	p.t.Helper()
	if _, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "clipboard-read"}, Setting: browser.PermissionSettingGranted,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *panelTab) clipboard() string {
	p.t.Helper()
	return evaluate[string](p.t, p.ctx, "navigator.clipboard.readText()")
}

// A panelTab is a browser in which an operator uses the panel.
type panelTab struct {
	t   *testing.T
	ctx context.Context
	url string // of the panel

	mu    sync.Mutex
	asked int  // how often the browser has asked whether to leave
	leave bool // what the operator answers to that
}

// openPanel opens the panel in a browser, the first of the programs that there is, whose operator is logged in. Timers run sixty times
// as fast, so that the test does not wait a minute for the clipboard.
func openPanel(t *testing.T, g *gateway, programs []string) *panelTab {
	t.Helper()
	p := &panelTab{t: t, ctx: newBrowser(t, programs), url: g.url + "/panel"}
	go p.answerDialogs(chromedp.Events(p.ctx, page.JavascriptDialogOpening))
	login := base64.StdEncoding.EncodeToString([]byte("operator:" + panelPassword))
	devtools(t, p.ctx, network.Enable, network.EnableParams{})
	devtools(t, p.ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": "Basic " + login}})
	devtools(t, p.ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	devtools(t, p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: "{ const real = setTimeout; setTimeout = (f, ms) => real(f, ms / 60) }; navigation.onnavigate = e => { window.leaving = !e.destination.sameDocument }"})
	p.open("")
	return p
}

func (p *panelTab) answerDialogs(dialogs iter.Seq2[page.EventJavascriptDialogOpening, error]) {
	for dialog, err := range dialogs {
		if err != nil {
			return // the tab is closed
		}
		p.mu.Lock()
		if dialog.Type == page.DialogTypeBeforeunload {
			p.asked++
		}
		leave := p.leave
		p.mu.Unlock()
		_, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: leave})
	}
}

// open opens a page of the panel by its query.
func (p *panelTab) open(query string) {
	p.t.Helper()
	browse(p.t, p.ctx, chromedp.Navigate(p.url+query))
}

// click clicks the link or button, or opens the summary, with this text.
func (p *panelTab) click(text string) {
	p.t.Helper()
	p.clickOn(`//*[self::a or self::button or self::summary][normalize-space(.)="` + text + `"]`)
}

// choose clicks the radio button or box with this id.
func (p *panelTab) choose(id string) {
	p.t.Helper()
	p.clickOn(`//*[@id="` + id + `"]`)
}

// clickOn clicks what the XPath finds, when the page has loaded: before that, its style may move a button away from the mouse. The page
// may have wanted to be left before, and have been kept.
func (p *panelTab) clickOn(path string) {
	p.t.Helper()
	p.has("document.evaluate(" + mustJSON(path) + ", document, null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue")
	browse(p.t, p.ctx, chromedp.Evaluate[chromedp.Void]("window.leaving = false"))
	browse(p.t, p.ctx, chromedp.Click(path))
}

// has waits until the page has loaded and has what the expression finds.
func (p *panelTab) has(expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && !!"+expression))
		if err == nil && found { // the page may be on its way
			return
		}
	}
	p.t.Fatalf("the page does not have %s:\n%s", expression, pageText(p.ctx))
}

// sees waits until the page has loaded, with its script, is not being left for another one, and says all of this.
func (p *panelTab) sees(texts ...string) {
	p.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		said, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.readyState === 'complete' && !window.leaving ? document.body.innerText : ''"))
		missing := slices.IndexFunc(texts, func(text string) bool { return !strings.Contains(said, text) })
		if err == nil && said != "" && missing < 0 {
			return
		}
		if time.Now().After(deadline) && said == "" {
			p.t.Fatalf("the page does not load (%v):\n%s", err, pageText(p.ctx))
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the page does not say %q:\n%s", texts[missing], pageText(p.ctx))
		}
	}
}

// focuses waits until the field with this id has the focus: the page's script may move it after the page is seen.
func (p *panelTab) focuses(id string) {
	p.t.Helper()
	browse(p.t, p.ctx, chromedp.Poll[chromedp.Void]("document.activeElement?.id === "+mustJSON(id)))
}

// fill writes into the field with this id, as a keyboard would.
func (p *panelTab) fill(id, text string) {
	p.t.Helper()
	within(p.t, time.Minute, "the field "+id+" has what was typed", func() bool { // a page that is still moving may swallow a key
		p.paste(id, "")
		browse(p.t, p.ctx, chromedp.SendKeys(chromedp.ID(id), text))
		return evaluate[string](p.t, p.ctx, "document.getElementById("+mustJSON(id)+").value") == text
	})
}

// paste puts a long text into the field with this id.
func (p *panelTab) paste(id, text string) {
	p.t.Helper()
	p.has("document.getElementById(" + mustJSON(id) + ")")
	evaluate[chromedp.Void](p.t, p.ctx, "document.getElementById("+mustJSON(id)+").value = "+mustJSON(text))
}

// questions returns how often the browser has asked whether to leave the page since the last call.
func (p *panelTab) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.asked
	p.asked = 0
	return n
}

func (p *panelTab) answer(leave bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave = leave
}

// passes checks that a token of this key arrives at the backend as the identity.
func (g *gateway) passes(t testing.TB, up *upstream, messenger, token, identity string) {
	t.Helper()
	up.take()
	if a := g.get("/"+messenger+"/hello", bearer(token)); a.status != 200 {
		t.Fatalf("the token is answered with %d %s", a.status, a.body)
	}
	if r := up.one(t); r.header.Get("X-Contact-Identity") != identity || r.header.Get("X-Contact-Messenger") != messenger {
		t.Errorf("the backend got %v", r.header)
	}
}
