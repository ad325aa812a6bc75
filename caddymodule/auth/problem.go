package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// documentation is the address that a problem's type links to: a page with an anchor for every code.
const documentation = "https://github.com/messengerauth/caddy-messenger-auth/blob/main/caddymodule/docs/errors.md#"

// retryAfter is how long a client should wait, in seconds, if the gateway could not decide.
const retryAfter = 5

// A problem is the answer to a refused request. Its sentences are constant: they say what is wrong and how to fix it, and
// contain nothing that was received or configured.
type problem struct {
	authn.CodeInfo
	body   []byte // application/problem+json (RFC 9457)
	length string // of the body

	challenge               string // what follows the realm in WWW-Authenticate
	challenges              bool   // whether that header is sent at all
	refused, wouldBeRefused string // log messages
}

// problems has the answer to every code. It is made for the first refusal, so that a program that includes the module without
// using it does not spend memory on it.
var problems = sync.OnceValue(func() map[authn.Code]*problem {
	problems := make(map[authn.Code]*problem)
	for _, code := range authn.Codes() {
		p := &problem{CodeInfo: code.Info()}
		problems[code] = p
		body, err := json.Marshal(struct {
			Type   string     `json:"type"`
			Title  string     `json:"title"`
			Status int        `json:"status"`
			Code   authn.Code `json:"code"`
			Detail string     `json:"detail"`
		}{documentation + string(code), p.Title, p.Status, code, p.Detail})
		if err != nil {
			panic(err) // cannot happen: these are strings and a number
		}
		p.body = append(body, '\n')
		p.length = strconv.Itoa(len(p.body))
		p.refused, p.wouldBeRefused = "refused: "+string(code), "would be refused: "+string(code)
		p.challenge, p.challenges = challenge(code, p)
	}
	return problems
})

// problemOf returns the answer to code.
func problemOf(code authn.Code) *problem { return problems()[code] }

// refuse answers r. If the site has a matching error route, that one answers, with the headers that are set here.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, d decision, rej *authn.Rejection) error {
	m, o := d.messenger, d.outcome
	o.Refuse(r, rej)
	p := problemOf(rej.Code)
	if h.WebSocketRejection == rejectionClose && o.Handshake && closeHandshake(w, r, p.CodeInfo) {
		return nil
	}
	header := w.Header()
	values := [3]string{"no-store", "application/problem+json"} // later handlers may change them in place
	header["Cache-Control"] = values[0:1:1]
	switch p.Status {
	case http.StatusServiceUnavailable:
		header["Retry-After"] = []string{strconv.Itoa(retryAfter)}
	case http.StatusTooManyRequests:
		after := rej.RetryAfter
		if after == 0 {
			after = m.FailLimit.RetryAfter()
		}
		header["Retry-After"] = []string{strconv.Itoa(after)}
	}
	if m != nil {
		if p.challenges {
			values[2] = `Bearer realm="` + m.Name + `"` + p.challenge
			header["Www-Authenticate"] = values[2:3:3]
		}
	}
	page := allowReading(m, header, r)
	if len(h.errorRoutes) > 0 {
		err := caddyhttp.Error(p.Status, fmt.Errorf("%s: %s", rej.Code, p.Detail))
		if answers, _ := h.goesToErrorRoute(r, err, true); answers {
			if page != nil {
				o.ErrorAnswer = page.readableAgain
			}
			return fail(o, err)
		}
	}
	header["Content-Type"] = values[1:2:2]
	if r.Method == http.MethodHead {
		header["Content-Length"] = []string{p.length}
		w.WriteHeader(p.Status)
		return nil
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.body)                                 // an error means that the client is gone
	upstream.ReadRest(w, r, r.Body, upstream.ReadByServer) // not before: an error route may need it
	return nil
}

// challenge returns what follows the realm in WWW-Authenticate (RFC 6750 section 3), and whether that header is sent at all.
// The challenge of a request without any token has no error code, as the RFC demands.
func challenge(code authn.Code, p *problem) (string, bool) {
	switch {
	case code == authn.TokenMissing:
		return "", true
	case p.Status == http.StatusUnauthorized:
		return `, error="invalid_token", error_description="` + p.Title + `"`, true
	case p.Status == http.StatusBadRequest:
		return `, error="invalid_request", error_description="` + p.Title + `"`, true
	}
	return "", false
}
