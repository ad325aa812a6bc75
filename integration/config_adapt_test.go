package integration

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var update = flag.Bool("update", false, "write the golden files of testdata/adapt anew")

// The files of testdata/adapt pair a Caddyfile with its JSON. Operators keep either of the two under version control: a
// change of what one becomes is a change of their gateway.
func TestCaddyfilesAdaptToTheirJSON(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := caddyfile.Format(text); !bytes.Equal(got, text) {
				t.Errorf("not formatted; caddy fmt writes\n%s", got)
			}
			config, err := adapt(string(text))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, config, "", "\t"); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := strings.TrimSuffix(file, ".caddyfile") + ".json"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("it became\n%s\nwant\n%s", got.Bytes(), want)
			}
		})
	}
}

// loadJSON runs a configuration that nobody wrote as a Caddyfile.
func loadJSON(t *testing.T, up *upstream, apps string) *gateway {
	t.Helper()
	g := newGateway(t, up, "http://")
	text := replaceWords(`{
		"admin": {"listen": "unix/`+g.sock+`"},
		"logging": {"logs": {"default": {"writer": {"output": "file", "filename": "`+g.log+`"}}}},
		"apps": `+apps+`
	}`, "UPSTREAM", up.addr, "ADDR", g.addr)
	g.replace([]byte(text))
	return g
}

// A matcher on a route keeps the requests that it does not match from the handler, and so from being cleaned. The matcher
// of the handler's own does not, also for those who write JSON.
func TestJSONHasTheSameProtection(t *testing.T) {
	up, secret := newUpstream(t), newSecret()
	g := loadJSON(t, up, `{
		"messenger": {"messengers": {"support": {"identity_key": "identity", "shared_token": {"token": "{file.`+write(t, "secret", []byte(secret))+`}"}}}},
		"http": {"servers": {"chat": {"listen": ["ADDR"], "automatic_https": {"disable": true}, "routes": [
			{"handle": [{"handler": "messenger_auth", "match": [{"path": ["/chat/*"]}], "claim_headers": [{"claim": "name", "header": "X-Contact-Name"}]}]},
			{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "UPSTREAM"}]}]}
		]}}}
	}`)
	evil := []string{"X-Contact-Identity: evil", "x-contact-messenger: sales", "X-Contact-Name: Eve"}
	token := bearer(sign(secret, with(valid("mark"), claims{"name": "Mark"})))
	if a := g.get("/chat/a", append(evil, token)...); a.status != 200 {
		t.Errorf("a valid token: got %d %s", a.status, a.body)
	}
	want := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support", "x-contact-name": "Mark"}
	if got := ownHeaders(up.one(t).header); !maps.Equal(got, want) {
		t.Errorf("the upstream saw %v, want %v", got, want)
	}
	if a := g.get("/chat/a", evil...); a.status != 401 || a.code(t) != "token_missing" {
		t.Errorf("no token: got %d %s, want 401 token_missing", a.status, a.body)
	}
	up.none(t)
	if a := g.get("/elsewhere", append(evil, token)...); a.status != 200 {
		t.Errorf("a request that does not match: got %d %s", a.status, a.body)
	}
	if got := ownHeaders(up.one(t).header); len(got) != 0 {
		t.Errorf("a request that does not match: the upstream saw %v", got)
	}
}

// JSON has mistakes that a Caddyfile cannot have. None of them is a panic, and none passes.
func TestMistakesInJSON(t *testing.T) {
	const support = `"messengers": {"support": {"identity_key": "identity", "shared_token": {"token": "{env.MESSENGER_TEST_TOKEN}"}}}`
	t.Setenv("MESSENGER_TEST_TOKEN", newSecret())
	secret := newSecret()
	for name, test := range map[string]struct {
		app, handler string
		want         []string
	}{
		"no messengers":                     {`{}`, `{}`, []string{"0 messengers"}},
		"a messenger that is null":          {`{"messengers": {"support": null}}`, `{}`, []string{"messenger support", "identity_key"}},
		"an empty messenger":                {`{"messengers": {"support": {}}}`, `{}`, []string{"messenger support", "identity_key is missing"}},
		"an empty list of keys":             {`{"messengers": {"support": {"identity_key": "a", "public_key": []}}}`, `{}`, []string{"no validation method"}},
		"a key without text":                {`{"messengers": {"support": {"identity_key": "a", "public_key": [{}]}}}`, `{}`, []string{"public_key"}},
		"an encoding of nothing":            {`{"messengers": {"support": {"identity_key": "a", "shared_token": {"encoding": "hex"}}}}`, `{}`, []string{"shared_token", "encoding"}},
		"a literal secret":                  {`{"messengers": {"support": {"identity_key": "a", "shared_token": {"token": "` + secret + `"}}}}`, `{}`, []string{"shared_token", "{env.NAME}"}},
		"an empty jwks":                     {`{"messengers": {"support": {"identity_key": "a", "jwks": {}}}}`, `{}`, []string{"jwks"}},
		"an option that is none":            {`{"messengers": {"support": {"identity_key": "a", "identity": "b"}}}`, `{}`, []string{`"identity"`}},
		"a name that is no name":            {`{"messengers": {"../x": {"identity_key": "a", "shared_token": {"token": "{env.MESSENGER_TEST_TOKEN}"}}}}`, `{}`, []string{"lower-case"}},
		"an origin that is none":            {`{"messengers": {"support": {"identity_key": "a", "shared_token": {"token": "{env.MESSENGER_TEST_TOKEN}"}, "allowed_origin": ["example.com"]}}}`, `{}`, []string{"allowed_origin"}},
		"a mode that is none":               {`{` + support + `}`, `{"mode": "on"}`, []string{"mode", `"on"`}},
		"a source of no kind":               {`{` + support + `}`, `{"token_from": [{}]}`, []string{"token_from", "header, cookie, query, websocket_protocol"}},
		"a source without a name":           {`{` + support + `}`, `{"token_from": [{"from": "cookie"}]}`, []string{"token_from", "name"}},
		"a cookie with a scheme":            {`{` + support + `}`, `{"token_from": [{"from": "cookie", "name": "a", "scheme": "Bearer"}]}`, []string{"token_from", "scheme"}},
		"a claim without a name":            {`{` + support + `}`, `{"claim_headers": [{"header": "X-A"}]}`, []string{"claim_header", "claim is missing"}},
		"a claim without a header":          {`{` + support + `}`, `{"claim_headers": [{"claim": "a"}]}`, []string{"claim_header", "header name"}},
		"a matcher that is none":            {`{` + support + `}`, `{"match": [{"no_such_matcher": 1}]}`, []string{"no_such_matcher"}},
		"an option of the handler, unknown": {`{` + support + `}`, `{"messengers": "support"}`, []string{`"messengers"`}},
		"a negative interval":               {`{` + support + `, "poll_interval": -1}`, `{}`, []string{"poll_interval", "negative"}},
	} {
		t.Run(name, func(t *testing.T) {
			handler := `{"handler": "messenger_auth", ` + strings.TrimPrefix(test.handler, "{")
			handler = strings.Replace(handler, ", }", "}", 1)
			text := `{"apps": {"messenger": ` + test.app + `, "http": {"servers": {"chat": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [` + handler + `]}]}}}}}`
			err := caddy.Validate(mustConfig(t, []byte(text)))
			if err == nil {
				t.Fatal("it loads")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v\nquotes the secret", err)
			}
		})
	}
}

// "caddy validate" is run on machines that serve nothing, and in a pipeline that may reach no key server. It builds what
// the configuration says, and fetches, writes and keeps nothing.
func TestValidateHasNoSideEffects(t *testing.T) {
	server := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	file := write(t, "secret", []byte(newSecret()))
	addr := freeAddr(t)
	before := folder(t, sockDir)
	for range 3 {
		config, err := adapt("{\n admin off\n messenger support {\n identity_key identity\n jwks " + server.url + "\n }\n messenger sales {\n identity_key identity\n shared_token {file." + file + "}\n }\n}\nhttp://" + addr + " {\n messenger_auth support\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(mustConfig(t, config)); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.fetches.Load(); n != 0 {
		t.Errorf("%d key sets were fetched", n)
	}
	if after := folder(t, sockDir); !slices.Equal(after, before) {
		t.Errorf("files appeared: %q, before %q", after, before)
	}
}

// folder lists all files under dir, which holds Caddy's storage and its saved configuration.
func folder(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
