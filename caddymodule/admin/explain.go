package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/diagnose"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// An Explanation describes a verification step by step, for the admin API and "caddy messenger explain". The gateway's own
// verifier makes it; this package decides nothing.
type Explanation struct {
	Messenger string             `json:"messenger"`
	Method    string             `json:"method"`
	Mode      config.Mode        `json:"mode"` // of the messenger; a messenger_auth may have its own
	Accepted  bool               `json:"accepted"`
	Status    int                `json:"status"` // of the gateway's own answer, or 200
	Code      authn.Code         `json:"code,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Detail    string             `json:"detail,omitempty"`
	Findings  []diagnose.Finding `json:"findings,omitempty"`
	Checks    []explainedCheck   `json:"checks"`
	Upstream  []explainedHeaders `json:"upstream,omitempty"` // one for each messenger_auth that differs

	// The claims of an accepted token in their order, and its iat and exp.
	Claims  []ExplainedClaim `json:"claims,omitempty"`
	Issued  *time.Time       `json:"issued,omitempty"`
	Expires *time.Time       `json:"expires,omitempty"`
}

// An ExplainedClaim is one claim of a token, as it was signed.
type ExplainedClaim struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

type explainedCheck struct {
	Name    string `json:"name"`
	About   string `json:"about"`   // what is checked, in a sentence
	Outcome string `json:"outcome"` // "passed", "failed" or "not reached"
	Reason  string `json:"reason,omitempty"`
}

type explainedHeaders struct {
	Headers []upstream.Header `json:"headers"`
}

// Explain verifies token for m and describes how. With hints it also says if the key of another messenger made the signature,
// which only users who may see all messengers should know. A few explanations are made at a time; the others wait.
func (s *Service) Explain(ctx context.Context, m *registry.Messenger, token string, hints bool) (*Explanation, error) {
	if err := explaining.take(ctx, slotWait); err != nil {
		return nil, err
	}
	defer explaining.release()
	name := m.Name
	others := make(map[string]*authn.Verifier)
	for other, messenger := range s.Messengers {
		if hints && other != name {
			others[other] = messenger.Verifier.Load()
		}
	}
	verifier := m.Verifier.Load()
	result := verifier.Explain(ctx, token)
	e := &Explanation{Messenger: name, Method: m.Method(), Mode: m.Mode.Or(config.ModeRequired), Accepted: result.Rejection == nil, Status: http.StatusOK}
	for _, check := range result.Checks {
		explained := explainedCheck{Name: check.Step.String(), About: check.Step.About(), Outcome: "passed"}
		if check.Rejection != nil {
			explained.Outcome, explained.Reason = "failed", check.Rejection.Reason
		}
		e.Checks = append(e.Checks, explained)
	}
	for _, check := range result.Skipped {
		e.Checks = append(e.Checks, explainedCheck{Name: check.String(), About: check.About(), Outcome: "not reached"})
	}
	if rej := result.Rejection; rej != nil {
		e.Findings = diagnose.Find(verifier, token, rej, others)
		if rej.Code == authn.TokenMalformed {
			e.Findings = diagnose.WithPasted(e.Findings, s.tokenSourcesOf(m), token)
		}
		info := rej.Code.Info()
		e.Status, e.Code, e.Reason, e.Detail = info.Status, rej.Code, rej.Reason, info.Detail
		return e, nil
	}
	e.Claims, e.Issued, e.Expires = claimsOf(token), moment(result.Contact.Issued), moment(result.Contact.Expires)
	for _, contract := range s.contracts(m) {
		contact, rej := verifier.VerifySelected(ctx, token, contract.Selection)
		if rej != nil {
			continue // the token expired while it was explained
		}
		e.Upstream = append(e.Upstream, explainedHeaders{contract.Preview(name, contact)})
	}
	return e, nil
}

// claimsOf returns the claims of an accepted token in their order. Such a token is well formed.
func claimsOf(token string) (claims []ExplainedClaim) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = strictjson.Claims(payload, func(name, value []byte, _ bool) {
		claims = append(claims, ExplainedClaim{string(name), value})
	})
	return claims
}

// tokenSourcesOf returns where the routes of m look for tokens, or the default source if no route serves m.
func (s *Service) tokenSourcesOf(m *registry.Messenger) (all authn.Sources) {
	for _, h := range s.Handlers() {
		if h.MayServe(m.Name) {
			all = append(all, h.Sources()...)
		}
	}
	if all == nil {
		return new(auth.Handler).Sources()
	}
	return all
}

// contracts returns the different header contracts under which requests of m are sent upstream. It returns the default contract if
// no messenger_auth uses m, and an empty list if every messenger_auth that uses m is off.
func (s *Service) contracts(m *registry.Messenger) []upstream.Contract {
	var contracts []upstream.Contract
	used := false
	for _, h := range s.Handlers() {
		if !h.MayServe(m.Name) {
			continue
		}
		used = true
		if h.Mode.Or(m.Mode) == config.ModeOff {
			continue
		}
		contract := h.Contract()
		if !slices.ContainsFunc(contracts, contract.Equal) {
			contracts = append(contracts, contract)
		}
	}
	if !used {
		contracts = append(contracts, new(auth.Handler).Contract())
	}
	return contracts
}
