package integration

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clientsOfTheTest are the clients of testdata/clients.cjs. The version that was tried is in .ci/run.
var clientsOfTheTest = []string{"phoenix", "actioncable", "graphql-ws", "mqtt", "socket.io", "signalr", "sockjs", "eventsource"}

// nodeWithClients returns the command that runs a script of testdata in Node, or skips where the packages are not installed.
func nodeWithClients(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	if err := probe("node-clients", ".", "node", "-e", `["phoenix","@rails/actioncable","graphql-ws","mqtt","socket.io-client","@microsoft/signalr","sockjs-client","eventsource","ws","jose"].forEach(require.resolve)`); err != nil {
		lacks(t, "node-clients", err)
	}
	return exec.Command("node", append([]string{script}, args...)...)
}

// The clients that people use reach the backend with the contact's identity and without the token, each in its own way: a header, a
// query parameter, or a subprotocol.
func TestUsualClientsConnect(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	g.unlogged = true // Caddy's access log has what is in a query
	secret := newSecret()
	file := write(t, "secret", []byte(secret))
	g.load("messenger support {\n identity_key identity\n shared_token {file."+file+"}\n}",
		"messenger_auth support {\n token_from header Authorization Bearer\n token_from query token\n token_from query access_token\n"+
			" token_from websocket_protocol prefix base64url.bearer.phx. base64url\n}\n reverse_proxy UPSTREAM")
	token := sign(secret, valid("mark"))
	cmd := nodeWithClients(t, filepath.Join("testdata", "clients.cjs"), g.url)
	cmd.Stdin = strings.NewReader(token)
	var output bytes.Buffer
	var waiting []string
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { // before the output is read
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	defer func() {
		if len(waiting) > 0 {
			t.Errorf("not there yet: %s\n%s", strings.Join(waiting, ", "), output.String())
		}
	}()
	waiting = slices.Clone(clientsOfTheTest)
	patiently(t, "every client reaches the backend", func() bool {
		for _, r := range up.take() {
			name, _, _ := strings.Cut(strings.TrimPrefix(r.uri, "/"), "/")
			name, _, _ = strings.Cut(name, "?")
			waiting = slices.DeleteFunc(waiting, func(client string) bool { return client == name })
			if got := r.header.Get("X-Contact-Identity"); got != "mark" {
				t.Errorf("%s: the identity arrives as %q", name, got)
			}
			text, _ := json.Marshal(r.header)
			if strings.Contains(r.uri+string(text), token) || strings.Contains(string(text), "base64url.bearer") {
				t.Errorf("%s: the backend gets the token", name)
			}
		}
		return len(waiting) == 0
	})
}
