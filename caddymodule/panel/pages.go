package panel

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/widget"
)

//go:embed pages/*.html pages/panel.css pages/*.js pages/icon.svg
var panelFiles embed.FS

// assetTypes are the types of the files that pages refer to, by the ends of their names. Templates are not among them.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// widgetScript is the script for web pages. The panel does not run it: it hands it out.
const widgetScript = "messenger-auth.min.js"

func (v *visit) serveAsset(name string) error {
	text, err := panelFiles.ReadFile("pages/" + name)
	if name == widgetScript {
		text, err = widget.Script, nil
	}
	kind := assetTypes[path.Ext(name)]
	if err != nil || kind == "" {
		return errNoPage
	}
	v.write(http.StatusOK, kind, text)
	return nil
}

func (v *visit) write(status int, kind string, text []byte) {
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(text) // an error means that the client is gone
	}
}

// panelTemplates are the pages by name, each with the frame around it. They are parsed for the first page: most programs with
// this module show none, and the collector of each would walk the templates in every cycle.
var panelTemplates = sync.OnceValue(func() map[string]*template.Template {
	frame := template.Must(template.New("layout.html").Funcs(template.FuncMap{
		"url":     panelURL,
		"moment":  func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 MST") },
		"hour":    func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:00 MST") },
		"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"ago":     ago,
		"method":  config.MethodLabel,
		"mode":    config.Mode.Label,
		"sum":     func(a, b int) int { return a + b - 1 }, // the last of b from a on
		"inc":     func(i int) int { return i + 1 },
		"code":    markCode,
		"badges":  badgesOf,
		"codes":   authn.Codes,
		"title":   func(code string) string { return authn.Code(code).Info().Title },
	}).ParseFS(panelFiles, "pages/layout.html", "pages/parts.html", "pages/readiness.html"))
	pages := make(map[string]*template.Template)
	for _, name := range []string{"list", "new", "messenger", "keys", "secret", "test", "embed", "delete", "error", "revocations", "revoke", "history"} {
		pages[name] = template.Must(template.Must(frame.Clone()).ParseFS(panelFiles, "pages/"+name+".html"))
	}
	return pages
})

// markCode returns text as HTML in which what is in `…` is code.
func markCode(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) //nolint:gosec // its parts are escaped above
}

// panelURL returns a link to a page of the panel, from names and values of its query. It has no path, so that it stays
// where the panel is mounted.
func panelURL(query ...string) string {
	values := make(url.Values)
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return "?" + values.Encode()
}

// render answers with a page. The page is complete before the first byte is sent, so that an error does not leave half of one.
func (v *visit) render(status int, page string, data any) {
	var text bytes.Buffer
	if err := panelTemplates()[page].Execute(&text, data); err != nil {
		v.logger.Error("rendering a page of the control panel failed", zap.String("page", page), zap.Error(err))
		http.Error(v.w, textNotRendered, http.StatusInternalServerError)
		return
	}
	v.write(status, "text/html; charset=utf-8", []byte(printable.Text(text.String())))
}

// A view has what all pages show.
type view struct {
	*visit // with the links of the operator, and what was done
	Title  string
	Alert  string           // what was not done
	Errors fieldErrors      // of a form
	Tab    string           // of a messenger's pages
	M      *messengerStatus // the messenger of the page, if it is one of a messenger
}

func (v *visit) view(title string) view { return view{visit: v, Title: title} }

// A messengerStatus is a messenger with its state on this node.
type messengerStatus struct {
	*admin.Description
	Stored    bool
	Generated bool // the gateway generates its shared tokens
	Usable    bool // at least one key can verify tokens
	Hints     []string
	Readiness *metrics.Readiness // nil if the messenger cannot be looked up
	keys      *admin.KeysInfo    // nil if the messenger cannot be looked up
}

// manyKeys is how many public keys a page shows as they are; more are folded.
const manyKeys = 3

// ManyKeys reports whether the messenger has so many public keys that a page folds them.
func (d *messengerStatus) ManyKeys() bool { return d.keys != nil && len(d.keys.Keys) > manyKeys }

// currentStatus describes the messenger of this visit.
func (v *visit) currentStatus() (*messengerStatus, error) {
	d, err := v.app.Describe(v.r.Context(), v.name)
	if err != nil {
		return nil, err
	}
	now := &messengerStatus{Description: d, Stored: d.Source == registry.SourceStored, Generated: d.Settings.IsGenerated(), Hints: d.Settings.FormWarnings()}
	_ = v.app.AddStates(v.r.Context(), []*admin.Description{d}) // the page can be shown without
	m, err := v.app.LookUp(v.r.Context(), v.name)
	if err != nil {
		return now, nil // the settings can be shown and fixed anyway
	}
	now.keys, now.Readiness = admin.DescribeKeys(m), m.Readiness()
	now.Usable = now.keys.Usable
	if m.KeySet != nil {
		// The panel is for site owners, who see no more than the reason, also of a URL that they have configured themselves.
		if err := keyserver.Reason(m.KeySet.Status().Err); err != nil {
			now.keys.Error = err.Error()
		}
	}
	return now, nil
}

// EndsSoon reports whether the shared tokens expire within a day, or the one in use does and was not replaced.
func (d *messengerStatus) EndsSoon() bool { return d.State != nil && d.State.Ending != nil }

func (v *visit) messengerView(tab string, d *messengerStatus) view {
	page := v.view(d.Name)
	page.Tab, page.M = tab, d
	return page
}

type errorView struct {
	view
	Text string
	Back string // the URL of the page from which a form was sent; "" if there is none
}

// lines returns the entries of a list that was written one a line.
func lines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return list
}
