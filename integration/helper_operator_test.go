package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An operator speaks with the admin API of one gateway, in this process or in another.
type operator struct {
	t    testing.TB
	sock string
}

func (g *gateway) operator() *operator { return &operator{g.t, g.sock} }

// send sends a request to a path under /messenger/, with header lines such as "If-Match: *". body is text, or a value that
// is sent as JSON, or nil for none. An error means that nobody answered.
func (o *operator) send(method, path string, body any, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return o.sendContext(ctx, method, path, body, headers...)
}

// sendContext is send for as long as ctx lasts.
func (o *operator) sendContext(ctx context.Context, method, path string, body any, headers ...string) (answer, error) {
	var text io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		text = strings.NewReader(body)
	default:
		text = strings.NewReader(mustJSON(body))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://caddy/messenger/"+path, text)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	client := socketClient(o.sock)
	client.Timeout = 0 // the context has one
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	if resp.StatusCode != http.StatusCreated { // which is the answer that may have a token
		search.add("answer of the admin API", append(headerText(resp.Header), read...))
	}
	a := answer{resp.StatusCode, resp.Header, string(read)}
	api, err := documented()
	if err != nil {
		return a, err
	}
	api.describes(o.t, method, path, a)
	return a, nil
}

// do is send where somebody has to answer.
func (o *operator) do(method, path string, body any, headers ...string) answer {
	o.t.Helper()
	a, err := o.send(method, path, body, headers...)
	if err != nil {
		o.t.Fatalf("%s %s: %v", method, path, err)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		o.t.Errorf("%s %s: Cache-Control is %q", method, path, got)
	}
	return a
}

// want is do for a request that must be answered with status.
func (o *operator) want(status int, method, path string, body any, headers ...string) answer {
	o.t.Helper()
	a := o.do(method, path, body, headers...)
	if a.status != status {
		o.t.Fatalf("%s %s: got %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

// refused is do for a request that must be refused with status, and returns what Caddy's error says.
func (o *operator) refused(status int, method, path string, body any, headers ...string) string {
	o.t.Helper()
	a := o.want(status, method, path, body, headers...)
	var said struct{ Error string }
	if err := json.Unmarshal([]byte(a.body), &said); err != nil || said.Error == "" {
		o.t.Errorf("%s %s: the error is not as Caddy's are: %q", method, path, a.body)
	}
	return said.Error
}

// askedToConfirm finds the number in the error of a change that takes keys or tokens out of use.
var askedToConfirm = regexp.MustCompile(`confirm the number (\d+)`)

// put creates a stored messenger, or replaces whatever is there, and confirms what that takes out of use.
func (o *operator) put(name string, settings any) described {
	o.t.Helper()
	a := o.do(http.MethodPut, "messengers/"+name, settings)
	if a.status == http.StatusPreconditionRequired {
		a = o.do(http.MethodPut, "messengers/"+name, settings, "If-Match: *")
	}
	if confirm := askedToConfirm.FindStringSubmatch(a.body); a.status == http.StatusPreconditionRequired && confirm != nil {
		a = o.do(http.MethodPut, "messengers/"+name+"?confirm="+confirm[1], settings, "If-Match: *")
	}
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		o.t.Fatalf("creating %s: got %d %s", name, a.status, a.body)
	}
	var d described
	decode(o.t, a.body, &d)
	return d
}

// described is what the admin API tells of a messenger.
type described struct {
	Name, Source, Revision, Method, Mode string
	Settings                             map[string]any
	Warnings                             []string
}

// generated are settings of a messenger with generated shared tokens.
var generated = map[string]any{"identity_key": "identity", "shared_token": map[string]any{}}

// A sharedToken is what the call that makes a token answers.
type sharedToken struct{ KID, Token string }

// makeToken generates, rotates or resets, confirms what that takes out of use, and returns the token.
func (o *operator) makeToken(action, name string, body any) sharedToken {
	o.t.Helper()
	made, err := o.tryToken(action, name, body)
	if err != nil {
		o.t.Fatal(err)
	}
	return made
}

// tryToken is makeToken where the call may fail.
func (o *operator) tryToken(action, name string, body any) (made sharedToken, err error) {
	a, err := o.send(http.MethodPost, "messengers/"+name+"/tokens/"+action, body)
	if confirm := askedToConfirm.FindStringSubmatch(a.body); err == nil && a.status == http.StatusPreconditionRequired && confirm != nil {
		confirmed := maps.Clone(body.(map[string]any))
		confirmed["confirm"], _ = strconv.Atoi(confirm[1]) // digits
		a, err = o.send(http.MethodPost, "messengers/"+name+"/tokens/"+action, confirmed)
	}
	if err != nil {
		return made, err
	}
	if a.status != http.StatusCreated {
		return made, fmt.Errorf("%s %s: got %d %s", action, name, a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.KID == "" || !strings.HasPrefix(made.Token, "mst_") {
		return made, fmt.Errorf("%s %s: the answer has no token", action, name)
	}
	search.secret(made.Token)
	return made, nil
}

func (o *operator) generate(name string) sharedToken {
	o.t.Helper()
	return o.makeToken("generate", name, map[string]any{})
}

// A ring is what the admin API tells of the shared tokens of a messenger.
type ring struct {
	Revision string
	Tokens   []struct {
		KID, Fingerprint, State string
		End                     *time.Time
		LastUsed                *time.Time `json:"last_used"`
	}
}

func (o *operator) ring(name string) (r ring) {
	o.t.Helper()
	decode(o.t, o.want(http.StatusOK, http.MethodGet, "messengers/"+name+"/tokens", nil).body, &r)
	return r
}

func decode(t testing.TB, text string, target any) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(target); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}
