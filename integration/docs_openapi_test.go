package integration

import (
	"slices"
	"strings"
	"testing"
)

// A program that was generated from the OpenAPI file works with a running gateway. Every operation is called once so that it
// succeeds, and the answers fit their schemas; every other test checks its answers in the same way.
func TestOpenAPIDescribesARunningGateway(t *testing.T) {
	api, err := documented()
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, newUpstream(t), "messenger support {\n identity_key sub\n jwks "+newKeyServer(t, publicJWK(rsaKey(0), "k1")).url+"\n}", clusterSite)
	o := g.operator()
	for _, call := range []struct {
		status       int
		method, path string
		body         any
	}{
		{201, "PUT", "messengers/acme", `{"identity_key": "sub", "shared_token": {}, "max_lifetime": "1h", "fail_limit": {"attempts": 20, "window": "1m"}}`},
		{200, "GET", "messengers?search=acme&limit=10", nil},
		{200, "GET", "messengers/acme", nil},
		{201, "POST", "messengers/acme/tokens/generate", `{}`},
		{201, "POST", "messengers/acme/tokens/import", `{"secret": "` + newSecret() + `", "kid": "before"}`},
		{201, "POST", "messengers/acme/tokens/rotate", `{"overlap": "24h"}`},
		{200, "POST", "messengers/acme/tokens/extend", `{"kid": "before", "overlap": "48h"}`},
		{200, "GET", "messengers/acme/tokens", nil},
		{200, "POST", "messengers/acme/tokens/revoke", `{"kid": "before", "close_connections": true}`},
		{200, "GET", "messengers/acme/keys", nil},
		{200, "GET", "messengers/support/keys", nil},
		{200, "POST", "messengers/support/refresh", `{"distrust": true}`},
		{200, "GET", "messengers/acme/readiness", nil},
		{200, "GET", "messengers/acme/history", nil},
		{200, "POST", "messengers/acme/explain", `{"token": "a.b.c"}`},
		{200, "POST", "messengers/acme/revocations", `{"identity": "mark", "issued_before": "2026-11-25T08:00:00Z"}`},
		{200, "POST", "messengers/acme/revocations/import", `{"revocations": [{"jti": "5f0c2a"}]}`},
		{200, "GET", "messengers/acme/revocations", nil},
		{200, "DELETE", "messengers/acme/revocations", `{"jti": "5f0c2a"}`},
		{201, "POST", "messengers/acme/tokens/reset", `{"close_connections": true}`},
		{200, "POST", "export", `{}`},
		{200, "POST", "import", `{"lines": [{"format": 1, "messenger": "globex", "source": "stored", "settings": {"identity_key": "sub", "shared_token": {}}}], "dry_run": true}`},
		{200, "GET", "connections", nil},
		{200, "POST", "connections/end", `{"messenger": "acme"}`},
		{200, "POST", "reseal", `{"check": true}`},
		{200, "POST", "repair", `{}`},
		{200, "DELETE", "messengers/acme", nil},
	} {
		o.want(call.status, call.method, call.path, call.body)
	}
	api.lock.Lock()
	defer api.lock.Unlock()
	for path, operations := range api.doc.(map[string]any)["paths"].(map[string]any) {
		for method := range operations.(map[string]any) {
			name := strings.ToUpper(method) + " " + path
			if method != "parameters" && !slices.ContainsFunc([]string{" 200", " 201"}, func(status string) bool { return api.tried[name+status] }) {
				t.Errorf("%s was not called, or not answered with success", name)
			}
		}
	}
}
