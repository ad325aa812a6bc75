// Package panel is messenger_panel, the control panel: HTML pages on which operators and site owners manage messengers, shared
// tokens and revocations.
//
// It does not know how an operation works; package admin does. It does not authenticate its users either: that is the task of
// the handlers before it. Its own checks of a request are in safety.go.
//
// Begin reading with [Panel].
package panel

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printlog"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

func init() {
	caddy.RegisterModule(new(Panel))
	httpcaddyfile.RegisterDirective("messenger_panel", parsePanel)
	// It answers requests itself, as respond does, and comes after the directives that authenticate.
	httpcaddyfile.RegisterDirectiveOrder("messenger_panel", httpcaddyfile.Before, "respond")
}

// defaultPanelUser is where Caddy's authenticators put the name of a user.
const defaultPanelUser = "{http.auth.user.id}"

// Panel serves the control panel, on which site owners view and change their messengers.
//
// It does not ask for a password: put an authentication handler before it. It answers only on TLS, or from and to loopback
// addresses, and never to a contact whom messenger_auth has verified.
//
// In a Caddyfile:
//
//	panel.example.com {
//		basic_auth {
//			alice {env.ALICE_PASSWORD_HASH}
//		}
//		messenger_panel [<matcher>] [<messenger...>] {
//			user {http.auth.user.id}
//		}
//	}
//
// It reads these placeholders, and sets none: those of an authenticator for the operator and for names of messengers,
// `{http.request.host.labels.*}` and `{http.request.uri.path.*}` for the latter only.
type Panel struct {
	// The messengers that this mount shows and changes, by name. A placeholder that an authenticator sets, such as
	// {http.auth.user.id}, or a part of the address, such as {http.request.host.labels.2}, is resolved for each request;
	// others are refused. Default: all messengers; then they can be created and deleted as well.
	Messengers []string `json:"messengers,omitempty"`

	// The placeholder with the name of the operator, for the audit log, one of those that an authenticator sets:
	// {http.auth.user.*}, {http.reverse_proxy.header.*}, {http.request.header.*} of a header that forward_auth has copied,
	// and {http.request.tls.client.*} with subject, serial, fingerprint, public_key_sha256 or san.* of a certificate that
	// was verified. Requests for which it is empty are refused. Default: {http.auth.user.id}.
	User string `json:"user,omitempty"`

	// Where the link "Sign out" of every page leads: the address of a page with https://, or a path such as /logout that begins
	// with one /. It ends the session of whatever authenticates the operators; passwords of basic_auth have none. Default: no
	// link.
	SignOut string `json:"sign_out,omitempty"`

	// Where the link "Help" of every page leads, like sign_out. Default: no link.
	Help string `json:"help,omitempty"`

	app    *admin.Service
	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Panel) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.messenger_panel",
		New: func() caddy.Module { return new(Panel) },
	}
}

// Provision checks the settings and finds the messengers.
func (p *Panel) Provision(ctx caddy.Context) error {
	if err := p.checkSettings(); err != nil {
		return fmt.Errorf("messenger_panel: %w", err)
	}
	p.User = cmp.Or(p.User, defaultPanelUser)
	if err := routing.CheckNamedRoutes(ctx); err != nil {
		return fmt.Errorf("messenger_panel: %w", err)
	}
	app, err := ctx.App("messenger")
	if err != nil {
		return err
	}
	p.app = admin.NewService(app.(*messenger.App))
	p.logger = printlog.New(ctx.Logger())
	return nil
}

// parsePanel reads the directive:
//
//	messenger_panel [<matcher>] [<messenger>…] {
//		user     <placeholder>
//		sign_out <url>
//		help     <url>
//	}
func parsePanel(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	return routing.ParseAnswering(h, new(Panel))
}

// UnmarshalCaddyfile sets up the handler from the tokens of the directive, the matcher excepted.
func (p *Panel) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the directive
	place := d.Token()
	p.Messengers = d.RemainingArgs()
	// option reads an option whose value is checked at once, so that the mistake is found at its line.
	option := func(target *string, check func() error) config.OptionParser {
		return func(d *caddyfile.Dispenser) error {
			name := d.Token()
			if err := config.Option(target)(d); err != nil {
				return err
			}
			if err := check(); err != nil {
				return config.AtToken(name).Errf("messenger_panel: %w", err)
			}
			return nil
		}
	}
	if err := config.ParseBlock(d, "messenger_panel", map[string]config.OptionParser{
		"user":     option(&p.User, func() error { return checkPanelUser(p.User) }),
		"sign_out": option(&p.SignOut, func() error { return checkLink("sign_out", p.SignOut) }),
		"help":     option(&p.Help, func() error { return checkLink("help", p.Help) }),
	}); err != nil {
		return err
	}
	if err := p.checkSettings(); err != nil {
		return config.AtToken(place).Errf("messenger_panel: %w", err)
	}
	return nil
}

// A visit is one request to the panel.
type visit struct {
	*Panel
	w        http.ResponseWriter
	r        *http.Request
	Operator string
	scope    []string // the messengers of this mount, if it is scoped
	name     string   // of the messenger that the URL names, once it was found to be in the scope
}

// Scoped reports whether the mount names its messengers. It depends on the configuration alone: a mount whose
// placeholders are empty shows nothing, and not everything.
func (p *Panel) Scoped() bool { return len(p.Messengers) > 0 }

// ServeHTTP answers every request itself. All pages have one path, whatever it is, and differ in the query, so that the
// panel works below any path, stripped or not.
func (p *Panel) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	defer upstream.ReadRest(w, r, r.Body, upstream.ReadByServer)
	protectPage(w.Header())
	v := &visit{Panel: p, w: w, r: r}
	if err := v.serve(); err != nil {
		v.showError(err)
	}
	return nil
}

func (v *visit) serve() error {
	query := v.r.URL.Query()
	if err := v.admit(); err != nil {
		return err
	}
	if asset := query.Get("asset"); asset != "" {
		return v.serveAsset(asset)
	}
	if name := query.Get("messenger"); name != "" {
		if err := v.choose(name); err != nil {
			return err
		}
		return v.dispatch(messengerPages[query.Get("page")])
	}
	if v.Scoped() {
		return v.dispatch(scopedPages[query.Get("page")])
	}
	return v.dispatch(allPages[query.Get("page")])
}

// A panelPage answers the methods that it has functions for. A POST gets the fields of the form.
type panelPage struct {
	get  func(*visit) error
	post func(*visit, form) error
}

// The pages by the name that the query gives them: of one messenger, of a mount that names messengers, and of a mount for
// all messengers.
var messengerPages, scopedPages, allPages map[string]panelPage

// Handlers render templates whose functions refer to these maps, which would be an initialization cycle in a declaration.
func init() {
	messengerPages = map[string]panelPage{
		"":       {(*visit).showMessenger, (*visit).saveMessenger},
		"keys":   {(*visit).showKeys, (*visit).changeKeys},
		"test":   {(*visit).showTest, (*visit).testToken},
		"embed":  {(*visit).showEmbed, (*visit).chooseAddress},
		"delete": {(*visit).showDelete, (*visit).deleteMessenger},

		"revocations": {(*visit).showRevocations, (*visit).changeRevocations},
		"history":     {(*visit).showHistory, nil},
		"enforce":     {nil, (*visit).enforce},
	}
	scopedPages = map[string]panelPage{
		"": {(*visit).showScope, nil},
	}
	allPages = map[string]panelPage{
		"":    {(*visit).showList, nil},
		"new": {(*visit).showNew, (*visit).createMessenger},
	}
}

func (v *visit) dispatch(page panelPage) error {
	switch {
	case page.get == nil && page.post == nil:
		return errNoPage
	case page.get != nil && (v.r.Method == http.MethodGet || v.r.Method == http.MethodHead):
		return page.get(v)
	case v.r.Method == http.MethodPost && page.post != nil:
		f, err := v.readForm()
		if err != nil {
			return err
		}
		return page.post(v, f)
	}
	var allow []string
	if page.get != nil {
		allow = append(allow, "GET", "HEAD")
	}
	if page.post != nil {
		allow = append(allow, "POST")
	}
	v.w.Header().Set("Allow", strings.Join(allow, ", "))
	return apierror.New(http.StatusMethodNotAllowed, textWrongMethod)
}

var errNoPage = apierror.New(http.StatusNotFound, textNoPage)

// showError answers with a page that says what went wrong. Failures of the gateway are described only in the log: they may name
// files and addresses.
func (v *visit) showError(err error) {
	status, text := http.StatusInternalServerError, ""
	if answer := (caddy.APIError{}); errors.As(err, &answer) {
		status, text = answer.HTTPStatus, answer.Err.Error()
	}
	switch {
	case status == http.StatusNotFound:
		text = errNoPage.Error() // the same for everything that does not exist
	case status == http.StatusServiceUnavailable:
		text = textStoreFails
	case status >= http.StatusInternalServerError:
		text = textFailure
	}
	if status >= http.StatusInternalServerError {
		v.logger.Error("answering a request to the control panel failed", zap.Error(err))
	}
	page := &errorView{view: v.view(errorTitle(status, !upstream.IsSafe(v.r.Method))), Text: cause.Sentence(text)}
	if name := v.r.URL.Query().Get("page"); v.name != "" && status != http.StatusNotFound {
		if messengerPages[name].get == nil {
			name = ""
		}
		page.Back = panelURL("messenger", v.name, "page", name)
	}
	v.render(status, "error", page)
}

// redirect sends the browser to a page after a change, so that loading it again changes nothing. The location is a query
// alone: only the browser knows below which path the panel is.
func (v *visit) redirect(query ...string) error {
	v.w.Header().Set("Location", panelURL(query...))
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// Done returns the name of what was done, for pages that say what is next.
func (v *visit) Done() string { return v.r.URL.Query().Get("done") }

// Notice returns the message that the query selects. The only part of it that comes from the query is a number. A link of another site
// selects none: it would say that something was done.
func (v *visit) Notice() string {
	if site := v.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return ""
	}
	text := notices()[v.Done()]
	if n, err := strconv.Atoi(v.r.URL.Query().Get("ended")); err == nil && n >= 0 && text != "" {
		text += " " + connectionsEnded(n)
	}
	return text
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Panel)(nil)
	_ caddyhttp.MiddlewareHandler = (*Panel)(nil)
	_ caddyfile.Unmarshaler       = (*Panel)(nil)
)
