package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ticket"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

const (
	// defaultTicketLifetime is how long a ticket is valid, unless ticket_lifetime is set.
	defaultTicketLifetime = 30 * time.Second

	// maxTicketRequest is the size of the largest body of a request for a ticket, and maxTicketPath of a path in it, percent-encoded.
	maxTicketRequest = 4 << 10
	maxTicketPath    = 2 << 10

	// ticketRetry is the value of Retry-After for a contact that has used too many tickets, in seconds.
	ticketRetry = 60

	// bodyWait is how long a client may take to send the body of a request for a ticket.
	bodyWait = 5 * time.Second
)

// isTicketRequest reports whether r is a request for ticket_path.
func (h *Handler) isTicketRequest(r *http.Request) bool {
	return h.TicketPath != "" && r.URL.Path == h.TicketPath
}

// checkTickets refuses settings of tickets that cannot work.
func (h *Handler) checkTickets() error {
	lifetime := config.DurationOr(h.TicketLifetime, defaultTicketLifetime)
	if err := checkPath(h.TicketPath); err != nil {
		return fmt.Errorf("ticket_path %q %w", h.TicketPath, err)
	}
	switch {
	case h.TicketPath != "" && h.TicketPath == h.LogoutPath:
		return errors.New("ticket_path is the same as logout_path; choose another path")
	case h.TicketPath != "" && len(h.TokenFrom) > 0 && !slices.ContainsFunc(h.TokenFrom, func(s TokenSource) bool { return s.From != authn.Ticket }):
		return errors.New("ticket_path gives tickets for tokens, and the only token_from is a ticket; add where the token is, such as token_from header Authorization Bearer")
	case h.TicketPath == "" && h.TicketLifetime != nil:
		return errors.New("ticket_lifetime needs a ticket_path")
	case lifetime < time.Second || lifetime > ticket.MaxLifetime:
		return fmt.Errorf("ticket_lifetime is not between 1s and %s; a page can ask for another ticket", config.DurationText(ticket.MaxLifetime))
	}
	return nil
}

// giveTicket answers requests for ticket_path; they are never passed upstream. A ticket is given for a valid token only,
// whatever the mode is.
func (h *Handler) giveTicket(w http.ResponseWriter, r *http.Request, d decision) error {
	m, o := d.messenger, d.outcome
	if h.answersPostOnly(w, r, m, "Content-Type") {
		return nil
	}
	if o.Contact != nil {
		// An earlier handler has removed the token, and a ticket without one would be worthless.
		return fail(o, caddyhttp.Error(http.StatusInternalServerError, errors.New("ticket_path has to be in the first messenger_auth that a request reaches")))
	}
	w, token, rej := h.authenticate(w, r, d.required())
	if rej == nil {
		rej = h.overLimit(m, r, o)
	}
	var path string
	if rej == nil {
		path, rej = ticketPathOf(w, r)
	}
	if rej != nil {
		h.record(r, d, rej, token)
		return h.refuse(w, r, d, rej)
	}
	now := registry.Now()
	expires := now.Add(config.DurationOr(h.TicketLifetime, defaultTicketLifetime))
	if until := o.Contact.Until; !until.IsZero() && until.Before(expires) {
		expires = until
	}
	text, err := h.registry.Store.Tickets.Give(ticket.Ticket{Messenger: m.Name, Path: path, Token: token, Expires: expires})
	if err != nil {
		return fail(o, caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("sealing a ticket: %w", err)))
	}
	h.record(r, d, nil, token)
	allowReading(m, w.Header(), r)
	body, err := json.Marshal(struct {
		Ticket    string `json:"ticket"`
		ExpiresIn int64  `json:"expires_in"`
	}{text, int64(expires.Sub(now) / time.Second)})
	if err != nil {
		return fail(o, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(append(body, '\n')) // an error means that the client is gone
	return nil
}

var errTicketRequest = &authn.Rejection{Code: authn.TicketRequestInvalid, Reason: "the body of a request for a ticket is neither empty nor an object with the one member path, a path of at most 2 KiB without a query"}

// ticketPathOf returns the path to which the body of a request binds the ticket, or "" for all.
func ticketPathOf(w http.ResponseWriter, r *http.Request) (string, *authn.Rejection) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyWait)) // where that is not supported, Caddy's own timeouts apply
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTicketRequest+1))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil || len(body) > maxTicketRequest {
		return "", errTicketRequest
	}
	if len(body) == 0 {
		return "", nil
	}
	var path string
	members, err := strictjson.Members(body)
	if err != nil || len(members) != 1 || json.Unmarshal(members["path"], &path) != nil || !strings.HasPrefix(path, "/") {
		return "", errTicketRequest
	}
	// The path is escaped as that of a request, so that both are compared in one spelling: browsers escape fewer characters than Go
	// does. A path with a query is refused, because its ticket would never be valid.
	address, err := url.ParseRequestURI(path)
	if err != nil || strings.ContainsAny(path, "?#") {
		return "", errTicketRequest
	}
	if path = address.EscapedPath(); len(path) > maxTicketPath {
		return "", errTicketRequest
	}
	return path, nil
}

// The rejections of a ticket.
var (
	errTicketInvalid  = &authn.Rejection{Code: authn.TicketInvalid, Reason: "the ticket was not sealed by this gateway, or was changed"}
	errTicketOtherKey = &authn.Rejection{Code: authn.TicketInvalid, Reason: ticket.ErrOtherKey.Error()}
	errOtherMessenger = &authn.Rejection{Code: authn.TicketInvalid, Reason: "the ticket is for another messenger"}
	errOtherPath      = &authn.Rejection{Code: authn.TicketInvalid, Reason: "the ticket is for another path"}
	errTicketExpired  = &authn.Rejection{Code: authn.TicketExpired, Reason: "the ticket has expired"}
	errTicketUsed     = &authn.Rejection{Code: authn.TicketUsed, Reason: "the ticket was used before"}
	errTooManyTickets = &authn.Rejection{Code: authn.TooManyRequests, Reason: ticket.ErrTooMany.Error(), RetryAfter: ticketRetry}
	errTicketUnknown  = &authn.Rejection{Code: authn.StoreUnavailable, Reason: "the use of the ticket could not be recorded"}
)

// redeem verifies the token in a ticket, marks the ticket as used, and returns the token. The order matters. The seal is checked
// first, so that forged tickets cost nothing else. The ticket is marked last, so that only valid ones reach the storage.
func (h *Handler) redeem(r *http.Request, m *registry.Messenger, text string, o *upstream.Outcome) (string, *authn.Rejection) {
	t, rej := h.openTicket(r, m, text)
	if rej != nil {
		return "", rej
	}
	switch {
	case t.Messenger != m.Name:
		return "", errOtherMessenger
	case t.Path != "" && t.Path != requestedPath(r):
		return "", errOtherPath
	}
	if rej := h.verify(r, m, t.Token, o); rej != nil {
		return t.Token, rej
	}
	err := h.registry.Store.Tickets.Take(r.Context(), t, m.Name+"\x00"+o.Contact.Identity, registry.Now)
	if err == nil {
		return t.Token, nil
	}
	o.Contact = nil // later handlers must not treat this request as verified
	switch {
	case errors.Is(err, ticket.ErrUsed):
		return "", errTicketUsed
	case errors.Is(err, ticket.ErrExpired):
		return "", errTicketExpired
	case errors.Is(err, ticket.ErrTooMany):
		return "", errTooManyTickets
	}
	if c := h.refusals.Check(zap.WarnLevel, "a ticket could not be used"); c != nil {
		c.Write(zap.String("messenger", m.Name), zap.Error(err), zap.String("advice", authn.StoreUnavailable.Info().Advice))
	}
	return "", errTicketUnknown
}

// openTicket opens a ticket. For fail_limit, a ticket that was changed counts as a forged token. One with another key does not: without a
// store key a genuine one from before a restart looks the same, and it costs less to refuse it than to count it.
func (h *Handler) openTicket(r *http.Request, m *registry.Messenger, text string) (t *ticket.Ticket, rej *authn.Rejection) {
	if m.FailLimit != nil {
		failures := failuresOf(m, r)
		if rej := failures.reserve(r.Context()); rej != nil {
			return nil, rej
		}
		defer func() { failures.settle(rej) }()
	}
	t, err := h.registry.Store.Tickets.Open(text, registry.Now())
	switch {
	case errors.Is(err, ticket.ErrExpired):
		return nil, errTicketExpired
	case errors.Is(err, ticket.ErrOtherKey):
		return nil, errTicketOtherKey
	case err != nil:
		return nil, errTicketInvalid
	}
	return t, nil
}

// requestedPath returns the path of r as the client sent it, before any rewrite. Escapes are kept, because a backend may decode them
// differently.
func requestedPath(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL.EscapedPath()
	}
	return r.URL.EscapedPath()
}
