package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// CORS lets pages of the messenger's allowed_origin send requests and read the answers, without any help from the backend.
// Preflights are answered here. Where the backend says itself who may read an answer (Access-Control-Allow-Origin), that stays.
type CORS struct {
	// Headers of answers that scripts may read, besides those that they always can, and WWW-Authenticate and Retry-After.
	// Default: none.
	ExposedHeaders []string `json:"exposed_headers,omitempty"`

	exposed     string // the value of Access-Control-Expose-Headers
	credentials bool   // a browser sends the token by itself
}

// prepare makes the values that are the same for all answers.
func (c *CORS) prepare(sources authn.Sources) {
	if c != nil {
		c.exposed = strings.Join(append([]string{exposedAlways}, c.ExposedHeaders...), ", ")
		c.credentials = slices.ContainsFunc(sources, func(s authn.Source) bool { return s.Kind == authn.Cookie })
	}
}

// preflightAge is how long a browser need not ask again, in seconds. Chromium takes two hours at most; a shorter time makes a
// change of allowed_origin active sooner.
const preflightAge = "600"

func (c *CORS) check() error {
	if c == nil {
		return nil
	}
	for i, name := range c.ExposedHeaders {
		switch {
		case name == "*":
			return errors.New(`cors: "*" does not mean all headers if the request has credentials; list each header`)
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("cors: %q is not a header name", name)
		case slices.ContainsFunc(c.ExposedHeaders[:i], func(other string) bool { return ascii.EqualFold(name, other) }):
			return fmt.Errorf("cors: the header %q is listed twice; remove one", name)
		}
	}
	return nil
}

// warnAboutOrigins warns operators about cors for a messenger that has no pages.
func (h *Handler) warnAboutOrigins() {
	if h.CORS != nil && h.static != nil && len(h.static.Origins) == 0 {
		h.registry.AuditWarning("cors has no effect without allowed_origin; list the origins of the pages with the widget", zap.String("messenger", h.static.Name))
	}
}

// A crossOrigin says to which page an answer is readable.
type crossOrigin struct {
	origin      string // as the request has it; "" if no page of another origin may read the answer
	credentials bool
	exposed     string

	wrote  [len(namesCORS)][]string // the values that allow has set; those of others are not these slices
	varies bool                     // allow has added Origin to Vary
}

// exposedAlways are the headers of refusals that scripts may read.
const exposedAlways = "WWW-Authenticate, Retry-After"

// allowedOrigin returns the Origin of r if it is in allowed_origin of m, and "" otherwise. It returns the text of the request,
// because a browser compares the answer with its own text, byte for byte.
func allowedOrigin(m *registry.Messenger, r *http.Request) string {
	sent := r.Header["Origin"]
	if len(sent) != 1 {
		return ""
	}
	if o, err := config.ParseOrigin(sent[0]); err != nil || !allows(m, o) {
		return ""
	}
	return sent[0]
}

// allow makes an answer readable to the page, unless the backend has set Access-Control-Allow-Origin: browsers refuse an answer that
// has this header twice.
func (c *crossOrigin) allow(header http.Header) {
	if c == nil || len(header["Access-Control-Allow-Origin"]) > 0 {
		return
	}
	c.varies = vary(header, "Origin") // for every origin, because a cache must not give this answer to another page
	if c.origin == "" {
		return
	}
	c.wrote = [len(namesCORS)][]string{{c.origin}, {"true"}, {c.exposed}}
	if !c.credentials {
		c.wrote[1] = nil
	}
	if len(header[namesCORS[2]]) > 0 {
		c.wrote[2] = nil
	}
	for i, name := range namesCORS {
		if c.wrote[i] != nil {
			header[name] = c.wrote[i]
		}
	}
}

// vary adds the name of a request header to Vary, unless it is there, and reports whether it did.
func vary(header http.Header, name string) bool {
	for _, value := range header["Vary"] {
		for element := range strings.SplitSeq(value, ",") {
			if element = strings.Trim(element, " \t"); element == "*" || ascii.EqualFold(element, name) {
				return false
			}
		}
	}
	header["Vary"] = append(slices.Clip(header["Vary"]), name)
	return true
}

// readableAgain is readable for the answer of an error route: it first removes the headers that allow has set for the answer that has failed.
// Those that the operator has set stay.
func (c *crossOrigin) readableAgain(w http.ResponseWriter) http.ResponseWriter {
	header := w.Header()
	for i, name := range namesCORS {
		if own, there := c.wrote[i], header[name]; len(own) > 0 && len(there) == 1 && &there[0] == &own[0] {
			delete(header, name)
		}
	}
	if i := slices.Index(header["Vary"], "Origin"); c.varies && i >= 0 {
		if header["Vary"] = slices.Delete(slices.Clone(header["Vary"]), i, i+1); len(header["Vary"]) == 0 {
			delete(header, "Vary")
		}
	}
	return c.readable(w)
}

// namesCORS are the headers of an answer that a page may read.
var namesCORS = [...]string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers"}

var errForeignPage = &authn.Rejection{Code: authn.OriginNotAllowed, Reason: "a page of an origin that is not in allowed_origin asks whether it may send a request"}

// serveReadably is serve for a handler with cors.
func (h *Handler) serveReadably(w http.ResponseWriter, r *http.Request, d decision) error {
	page := &crossOrigin{origin: allowedOrigin(d.messenger, r), credentials: h.CORS.credentials, exposed: h.CORS.exposed}
	if isPreflight(r) && !h.isLogout(r) {
		if page.origin != "" {
			page.answerPreflight(w, r)
			return nil
		}
		if d.mode != config.ModeReport {
			h.removeToken(r)
			d.outcome.Messenger = d.messenger.Name
			h.record(r, d, errForeignPage, "")
			return h.refuse(w, r, d, errForeignPage)
		}
	}
	readable := page.readable(w)
	err := h.serve(readable, r, d)
	if err == nil {
		beginAnswer(readable)
		return nil
	}
	if _, cleaned := h.goesToErrorRoute(r, err, d.outcome.Refused); !cleaned {
		page.allow(w.Header()) // also for Caddy's own error answer, so that a script sees its status
	}
	if d.outcome.ErrorAnswer == nil { // otherwise a refusal says who may read it
		d.outcome.ErrorAnswer = page.readableAgain
	}
	return err
}

// answerPreflight allows the page to send the request that it asks for. Whether that request is refused is decided when it arrives.
func (c *crossOrigin) answerPreflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for _, name := range []string{"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"} {
		vary(header, name)
	}
	header.Set("Access-Control-Allow-Origin", c.origin)
	if c.credentials {
		header.Set("Access-Control-Allow-Credentials", "true")
	}
	header.Set("Access-Control-Allow-Methods", r.Header.Get("Access-Control-Request-Method")) // isPreflight has checked it
	if asked := r.Header["Access-Control-Request-Headers"]; len(asked) == 1 && isNameList(asked[0]) {
		header.Set("Access-Control-Allow-Headers", asked[0])
	}
	header.Set("Access-Control-Max-Age", preflightAge)
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

// isNameList reports whether list has header names only.
func isNameList(list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if !httpguts.ValidHeaderFieldName(strings.Trim(name, " \t")) {
			return false
		}
	}
	return true
}

// hasPages reports whether m has pages of its own. m may be nil.
func hasPages(m *registry.Messenger) bool { return m != nil && len(m.Origins) > 0 }

// allowReading lets scripts of the messenger's own pages read why they were refused. It returns the page, or nil if the messenger has none.
func allowReading(m *registry.Messenger, header http.Header, r *http.Request) *crossOrigin {
	if !hasPages(m) {
		return nil
	}
	page := &crossOrigin{origin: allowedOrigin(m, r), credentials: true, exposed: exposedAlways}
	page.allow(header)
	return page
}

// readable returns the writer of an answer that the page may read. Its headers are set when the answer begins: a backend may have set them.
func (c *crossOrigin) readable(w http.ResponseWriter) http.ResponseWriter {
	p := &privateWriter{page: c, public: true}
	p.ResponseWriter = w
	return p
}
