package panel

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/samples"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// The page Embed: the programs that site developers copy, and a test that sends a token to the gateway as their page does.

// defaultMarker is the subprotocol before the token where no messenger_auth names another.
const defaultMarker = "jwt"

// maxAddress bounds the address of the gateway.
const maxAddress = 2 << 10

// A sample is a program with what a developer has to know to run it. It has no code if the language cannot sign with the algorithm.
type sample struct {
	ID, Language, Install, Run, Code string
}

type embedView struct {
	view
	Contract *samples.Contract
	Page     string // the program for the web page
	Samples  []sample
	Marker   string
	NoMarker bool // no route takes tokens from subprotocols, as far as this gateway knows

	Address  string       // of the gateway, as it was written
	Target   string       // the same, once it is valid: what the test calls
	Known    []string     // origins under which this gateway's configuration has the messenger
	Codes    []authn.Code // with which the gateway closes a socket, in which it cannot say more
	Readable bool         // the messenger has pages of other origins that may read why they were refused
}

// showEmbed shows what a site needs to copy.
func (v *visit) showEmbed() error {
	page, err := v.embedPage()
	if err != nil {
		return err
	}
	if len(page.Known) == 1 {
		page.Address = page.Known[0] + "/"
	}
	return v.renderEmbed(page)
}

// chooseAddress shows the page for an address of the gateway, and lets it call this address.
//
// The address is a field of a form, which only a page of the panel can send, and not a part of the URL: with a link an attacker could
// have an operator send a token to an address of the attacker's. The policy allows this one origin, in this one answer.
func (v *visit) chooseAddress(f form) error {
	page, err := v.embedPage()
	if err != nil {
		return err
	}
	page.Address = f.get("address")
	target, problem := checkAddress(page.Address)
	if problem != "" {
		page.Errors = fieldErrors{{"address", problem}}
		return v.renderEmbed(page)
	}
	page.Target = target.String()
	header := v.w.Header()
	header.Set("Content-Security-Policy", header.Get("Content-Security-Policy")+"; connect-src "+target.Scheme+"://"+target.Host)
	return v.renderEmbed(page)
}

// checkAddress returns the address that a page calls, or what is wrong with it. The host of the result has only characters that
// cannot end an expression of the Content-Security-Policy.
func checkAddress(text string) (*url.URL, string) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, textNoAddress
	case err != nil || len(text) > maxAddress:
		return nil, textBadAddress
	case u.Scheme != "https" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "ws":
		return nil, textBadScheme
	case u.Hostname() == "" || strings.Trim(ascii.Lower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789-._:") != "":
		return nil, textBadHost
	case u.User != nil || u.Fragment != "" || strings.Contains(text, "#"):
		return nil, textBadUser
	}
	u.Host = ascii.Lower(u.Host)
	return u, ""
}

func (v *visit) embedPage() (*embedView, error) {
	d, err := v.currentStatus()
	if err != nil {
		return nil, err
	}
	marker := marker(v.app, v.name)
	page := &embedView{view: v.messengerView("embed", d), Marker: cmp.Or(marker, defaultMarker), NoMarker: marker == "", Known: v.knownOrigins(), Codes: authn.Codes(), Readable: len(d.Settings.AllowedOrigin) > 0}
	var keys []samples.Key
	if d.keys != nil {
		for _, key := range d.keys.Keys {
			keys = append(keys, samples.Key{Algorithm: key.Algorithm, ID: key.KeyID})
		}
	}
	page.Contract = samples.For(d.Settings, keys)
	for _, l := range samples.Languages() {
		code, err := l.Endpoint(page.Contract)
		if err != nil {
			return nil, err
		}
		page.Samples = append(page.Samples, sample{l.ID, l.Name, l.Install(page.Contract), l.Run, code})
	}
	return page, nil
}

func (v *visit) renderEmbed(page *embedView) (err error) {
	script := samples.Page{Address: strings.Replace(page.Target, "http", "ws", 1), Marker: page.Marker}
	if !strings.HasPrefix(page.Target, "http") {
		script.Address = page.Target
	}
	if page.Page, err = script.Script(); err != nil {
		return err
	}
	status := http.StatusOK
	if page.Errors != nil {
		status = http.StatusUnprocessableEntity
	}
	v.render(status, "embed", page)
	return nil
}

// marker returns the subprotocol behind which a route of the messenger takes tokens, or "" if none does.
func marker(a *admin.Service, name string) string {
	for _, h := range a.Handlers() {
		if marker := h.Marker(); marker != "" && h.MayServe(name) {
			return marker
		}
	}
	return ""
}

// knownOrigins returns the origins under which the server of this page serves the messenger, by its configuration: hosts of other
// messengers are not among them. Scheme and port are those of this page. What other servers and proxies do is not known.
func (v *visit) knownOrigins() (origins []string) {
	server, _ := v.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	scheme, reached, known := upstream.ReachedAt(v.r)
	if server == nil || !known {
		return nil
	}
	page, port, err := net.SplitHostPort(reached)
	if err != nil {
		page = reached
	} else {
		port = ":" + port
	}
	routing.VisitHandlers(server, func(handler caddyhttp.MiddlewareHandler, hosts []string) {
		h, ok := handler.(*auth.Handler)
		if !ok {
			return
		}
		for _, host := range hosts {
			if host == "" {
				host = page
			}
			if host, ok = hostOf(h.Messenger, host, v.name); !ok {
				continue
			}
			if origin := scheme + "://" + host + port; !slices.Contains(origins, origin) {
				if _, problem := checkAddress(origin); problem == "" {
					origins = append(origins, origin)
				}
			}
		}
	})
	slices.Sort(origins)
	return origins
}

// hostOf returns the host under which a directive serves the messenger of that name, for a host of its route: ref is what the
// directive has as its messenger. With {labels.2} and *.chat.example.com that is the name in the place of the star.
func hostOf(ref, host, name string) (string, bool) {
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	for i, label := range labels {
		ref = strings.ReplaceAll(ref, "{"+config.HostLabelPrefix+strconv.Itoa(i)+"}", label)
	}
	switch {
	case strings.Contains(ref, "{"+config.HostLabelPrefix):
		return "", false // the host does not have this label
	case ref == "*" && strings.Count(host, "*") == 1:
		return strings.Replace(host, "*", name, 1), true
	}
	return host, !strings.Contains(host, "*") && config.RefCanName(ref, name)
}
