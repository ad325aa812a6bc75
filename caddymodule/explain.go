package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// An explanation is a verification told step by step, as the admin API and "caddy messenger explain" give it. It is made
// by the gateway's verifier; nothing here decides anything.
type explanation struct {
	Messenger string             `json:"messenger"`
	Method    string             `json:"method"`
	Mode      Mode               `json:"mode"` // of the messenger; a messenger_auth may have its own
	Accepted  bool               `json:"accepted"`
	Status    int                `json:"status"` // of the gateway's own answer, or 200
	Code      authn.Code         `json:"code,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Detail    string             `json:"detail,omitempty"`
	Findings  []explainedFinding `json:"findings,omitempty"`
	Checks    []explainedCheck   `json:"checks"`
	Upstream  []explainedHeaders `json:"upstream,omitempty"` // one for each messenger_auth that differs
}

type explainedCheck struct {
	Name    string `json:"name"`
	About   string `json:"about"`   // what is checked, in a sentence
	Outcome string `json:"outcome"` // "passed", "failed" or "not reached"
	Reason  string `json:"reason,omitempty"`
}

type explainedFinding struct {
	Cause string `json:"cause"`
	Fix   string `json:"fix"`
}

type explainedHeaders struct {
	Headers []explainedHeader `json:"headers"`
}

type explainedHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// explain verifies token for m, and tells how. With hints it says as well if another messenger's key made the signature,
// which is for those to know who may see all messengers.
func (a *service) explain(ctx context.Context, m *messenger, token string, hints bool) *explanation {
	name := m.name
	others := make(map[string]*authn.Verifier)
	for other, messenger := range a.Messengers {
		if hints && other != name {
			others[other] = messenger.verifier.Load()
		}
	}
	verifier := m.verifier.Load()
	told := verifier.Explain(ctx, token, nil, others)
	e := &explanation{Messenger: name, Method: m.method(), Mode: m.Mode.or(ModeRequired), Accepted: told.Rejection == nil, Status: http.StatusOK}
	for _, check := range told.Checks {
		explained := explainedCheck{Name: check.Step.String(), About: check.Step.About(), Outcome: "passed"}
		if check.Rejection != nil {
			explained.Outcome, explained.Reason = "failed", check.Rejection.Reason
		}
		e.Checks = append(e.Checks, explained)
	}
	for _, check := range told.Skipped {
		e.Checks = append(e.Checks, explainedCheck{Name: check.String(), About: check.About(), Outcome: "not reached"})
	}
	for _, finding := range told.Findings {
		e.Findings = append(e.Findings, explainedFinding(finding))
	}
	if rej := told.Rejection; rej != nil {
		info := rej.Code.Info()
		e.Status, e.Code, e.Reason, e.Detail = info.Status, rej.Code, rej.Reason, info.Detail
		return e
	}
	for _, contract := range a.contracts(m) {
		contact, rej := verifier.Verify(ctx, token, contract.claims)
		if rej != nil {
			continue // it expired while it was explained
		}
		e.Upstream = append(e.Upstream, explainedHeaders{contract.explain(name, contact)})
	}
	return e
}

// explainInTurn is explain where anybody may ask in parallel.
func (a *service) explainInTurn(ctx context.Context, m *messenger, token string, hints bool) (*explanation, error) {
	if err := explaining.take(ctx); err != nil {
		return nil, err
	}
	defer explaining.release()
	return a.explain(ctx, m, token, hints), nil
}

// contracts returns the different header contracts under which requests of m go upstream: the default one if no
// messenger_auth uses m, and none if all that use it are off.
func (a *service) contracts(m *messenger) []headers {
	var contracts []headers
	used := false
	for _, h := range a.handlers() {
		if !h.MayServe(m.name) {
			continue
		}
		used = true
		if h.Mode.or(m.Mode) == ModeOff {
			continue
		}
		contract := h.contract()
		if !slices.ContainsFunc(contracts, contract.equal) {
			contracts = append(contracts, contract)
		}
	}
	if !used {
		contracts = append(contracts, new(Handler).contract())
	}
	return contracts
}

func (c headers) equal(other headers) bool {
	return c.raw == other.raw && slices.Equal(c.folded, other.folded) && slices.Equal(c.claims, other.claims)
}

// explain returns the headers that set puts on a request.
func (c headers) explain(messenger string, contact *authn.Contact) []explainedHeader {
	r := &http.Request{Header: make(http.Header)}
	o := &outcome{messenger: messenger, contact: contact}
	c.set(r, o)
	var list []explainedHeader
	for _, name := range o.set {
		list = append(list, explainedHeader{Name: name, Value: r.Header.Get(name)})
	}
	return list
}

// only returns name, or the name of the only messenger if name is empty.
func (a *service) only(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	switch names := a.names(); len(names) {
	case 0:
		return "", errors.New("the configuration has no messenger; add the global option messenger <name> { … }, or name a stored messenger")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("name the messenger that is meant; configured are: %s", enumerate(a.names()))
}

func enumerate(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// quietLogging lets nothing through but errors and the audit log of what people change.
func quietLogging() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: "ERROR"}, Exclude: []string{auditLog}},
		"audit":                 {BaseLog: caddy.BaseLog{Level: "INFO"}, Include: []string{auditLog}, Exclude: []string{auditLog + ".configuration", auditLog + ".keys"}},
	}}
}

// offlineApp makes the app of a configuration in JSON, with its storage, without running anything: keys are loaded, and
// nothing is fetched or written yet. The caller calls the function it returns when done.
func offlineApp(config []byte) (*service, func(), error) {
	var parsed struct {
		Storage json.RawMessage `json:"storage"`
		Apps    struct {
			Messenger json.RawMessage `json:"messenger"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, nil, err
	}
	if parsed.Apps.Messenger == nil {
		parsed.Apps.Messenger = json.RawMessage("{}")
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{Logging: quietLogging(), StorageRaw: parsed.Storage, AppsRaw: caddy.ModuleMap{"messenger": parsed.Apps.Messenger}})
	if err != nil {
		return nil, nil, err
	}
	loaded, err := ctx.App("messenger")
	if err != nil {
		return nil, nil, err
	}
	app := loaded.(*App)
	routes := handlersOf(config, app.Registry())
	return serviceOf(app.Registry(), func() []*Handler { return routes }), func() { _ = app.Cleanup() }, nil
}

// explainOffline is explain for an app that does not run: key sets are fetched now. A set that cannot be fetched shows as
// keys_unavailable, as it would in a gateway.
func (a *service) explainOffline(name, token string) (*explanation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var fetches sync.WaitGroup
	for _, m := range a.Messengers {
		if m.jwks != nil {
			fetches.Go(func() { _ = m.jwks.Refresh(ctx, false) }) // a finding says why not
		}
	}
	fetches.Wait()
	m, err := a.lookUp(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.explain(ctx, m, token, true), nil
}

// handlersOf finds the messenger_auth handlers anywhere in a configuration. They are not provisioned; they serve to say
// which headers they would set.
func handlersOf(config []byte, app *registry) []*Handler {
	var tree any
	if json.Unmarshal(config, &tree) != nil {
		return nil
	}
	var found []*Handler
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, child := range node {
				walk(child)
			}
		case map[string]any:
			if node["handler"] == "messenger_auth" {
				text, _ := json.Marshal(node)
				if h, err := readHandler(text, app); err == nil {
					found = append(found, h)
				}
			}
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(tree)
	return found
}
