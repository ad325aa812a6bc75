package panel

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// Who may use the panel, and what its pages may do in a browser. Every request passes admit before anything else.

// maxPanelForm bounds a form; a token has 8 KiB at most, and ten public keys about 30.
const maxPanelForm = 64 << 10

// maxOperatorName bounds the name of an operator, which goes into the audit log.
const maxOperatorName = 255

// protectPage sets the headers of every answer: no foreign scripts, frames, caches or referrers. Pages show settings, and one of
// them a secret.
func protectPage(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// admit finds out who sends the request, or refuses it.
func (v *visit) admit() error {
	// A contact is never an operator. On a site with both, an authenticator that knows the contact, or a placeholder that our
	// own handler sets, would otherwise turn a contact into an operator.
	if upstream.IsVerified(v.r) {
		return apierror.New(http.StatusForbidden, textContact)
	}
	if err := checkTransport(v.r); err != nil {
		return err
	}
	if err := v.checkSameOrigin(); err != nil {
		return err
	}
	repl, ok := v.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return errors.New("a request without a replacer")
	}
	operator, ok := v.operatorOf(repl)
	if !ok {
		return apierror.New(http.StatusForbidden, textNotLoggedIn)
	}
	v.Operator = operator
	v.scope = v.scopeOf(repl)
	if v.Scoped() && len(v.scope) == 0 {
		return apierror.New(http.StatusForbidden, textNoMessenger)
	}
	return nil
}

// checkTransport keeps passwords and shared tokens from crossing a network unencrypted. A proxy that the operator trusts says
// whether the browser has reached it over TLS; the same header of anyone else is not read. A page of another site that makes its
// name resolve to 127.0.0.1 (DNS rebinding) reaches a loopback address too, but names its own host.
func checkTransport(r *http.Request) error {
	proxied := upstream.FromTrustedProxy(r) && len(r.Header["X-Forwarded-Proto"]) > 0
	switch scheme, _, known := upstream.ReachedAt(r); {
	case known && scheme == "https":
		return nil
	case !known || proxied:
		return apierror.New(http.StatusForbidden, textProxySilent)
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !isLoopbackAddr(local.String()) || !isLoopbackAddr(r.RemoteAddr) {
		return apierror.New(http.StatusForbidden, textNotHTTPS)
	}
	if !isLoopbackHost(r.Host) {
		return apierror.New(http.StatusForbidden, textNotLocal)
	}
	return nil
}

func isLoopbackAddr(addr string) bool {
	parsed, err := netip.ParseAddrPort(addr)
	return err == nil && parsed.Addr().Unmap().IsLoopback()
}

func isLoopbackHost(hostport string) bool {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	host = ascii.Lower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// checkSameOrigin refuses changes that a page of another site makes an operator's browser send (CSRF). Current browsers say in
// Sec-Fetch-Site, which no page can set, whether a page of the same origin sends the request. They do so over HTTPS and to
// localhost. Others name the origin of the page, which has to be ours with its scheme; a form without both is refused.
func (v *visit) checkSameOrigin() error {
	if upstream.IsSafe(v.r.Method) {
		return nil
	}
	origin := v.r.Header.Get("Origin")
	switch site := v.r.Header.Get("Sec-Fetch-Site"); {
	case site == "same-origin", site == "none":
		return nil
	case site == "" && origin == "":
		return apierror.New(http.StatusForbidden, textNoOrigin)
	case site == "":
		if page, err := config.ParseOrigin(origin); err == nil && upstream.IsOwnOrigin(v.r, page) {
			return nil
		}
	}
	return apierror.New(http.StatusForbidden, textOtherSite)
}

// choose makes name the messenger of this visit. On a mount that names messengers the answer for any other is the same, whether
// it exists or not.
func (v *visit) choose(name string) error {
	if config.CheckName(name) != nil || v.Scoped() && !slices.Contains(v.scope, name) {
		return errNoPage
	}
	v.name = name
	return nil
}

// readForm reads a form of bounded size. The query is not part of it.
func (v *visit) readForm() (form, error) {
	if kind, _, _ := mime.ParseMediaType(v.r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		return nil, apierror.New(http.StatusUnsupportedMediaType, textNoForm)
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxPanelForm)
	if err := v.r.ParseForm(); err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			return nil, apierror.New(http.StatusRequestEntityTooLarge, fmt.Sprintf(textFormTooLarge, maxPanelForm>>10))
		}
		return nil, apierror.New(http.StatusBadRequest, textFormUnreadable)
	}
	return form(v.r.PostForm), nil
}

// A form is what was sent in the body of a request.
type form url.Values

func (f form) get(field string) string { return strings.TrimSpace(url.Values(f).Get(field)) }

// checkSettings checks everything that can be decided without the app. The Caddyfile adapter calls it too, to name the line of a
// mistake.
func (p *Panel) checkSettings() error {
	if err := config.CheckList(p.Messengers); err != nil {
		return fmt.Errorf("the list of messengers %w", err)
	}
	for _, entry := range p.Messengers {
		if err := checkPanelMessenger(entry); err != nil {
			return fmt.Errorf("messenger %q: %w", entry, err)
		}
	}
	if err := checkLink("sign_out", p.SignOut); err != nil {
		return err
	}
	if err := checkLink("help", p.Help); err != nil {
		return err
	}
	if p.User == "" {
		return nil
	}
	return checkPanelUser(p.User)
}

// checkLink checks where a link of the operator's leads. It is on every page, and a person follows it who can change keys: it
// cannot run a script (javascript:, data:), and does not leave HTTPS.
func checkLink(option, link string) error {
	if link == "" {
		return nil
	}
	u, err := url.Parse(link)
	isPath := strings.HasPrefix(link, "/") && !strings.HasPrefix(link, "//") && err == nil
	isHTTPS := err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil
	// Browsers read \ as /, and drop line breaks and blanks.
	if !isPath && !isHTTPS || strings.ContainsAny(link, "\\{}") || strings.Contains(link, " ") || printable.Line(link) != link {
		return fmt.Errorf("%s %q is not the address of a page with https://, or a path that begins with one /", option, link)
	}
	return nil
}
