package integration

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
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
