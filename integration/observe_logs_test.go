package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A line is an entry of Caddy's log.
type line struct {
	Level, Logger, Msg, Code, Reason, Advice, Messenger, By string

	Auth *struct{ Messenger, Method, Mode, Verdict, Source, Cache, Fingerprint string } `json:"messenger_auth"`
	text string
}

// lines returns the entries of the log that are ours: those of our loggers, Caddy's access log excepted.
func (g *gateway) lines(wanted func(line) bool) (found []line) {
	g.t.Helper()
	for text := range strings.SplitSeq(g.logs(), "\n") {
		var l line
		if json.Unmarshal([]byte(text), &l) == nil && wanted(l) {
			l.text = text
			found = append(found, l)
		}
	}
	return found
}

func ours(l line) bool {
	return l.Logger == "messenger" || strings.HasPrefix(l.Logger, "messenger.") || strings.HasPrefix(l.Logger, "http.handlers.messenger_")
}

// The disk of a gateway under attack must not fill up, and the first sign of each kind of attack must not drown in the
// others. Nothing that a client does is an error.
func TestLogsUnderAFloodOfRefusals(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, mode := range []string{"required", "report"} {
		t.Run(mode, func(t *testing.T) {
			m := methods(t)[0]
			g := newGateway(t, newUpstream(t), "http://")
			g.unlogged = true
			g.load(liveOptions+"\n"+strings.Replace(m.messengers, "support", "sales", 1), "messenger_auth {path.0} {\n mode "+mode+"\n}\nreverse_proxy UPSTREAM")
			quiet := len(g.lines(ours))
			began := time.Now()
			kinds := map[string][]string{
				"token_malformed":       {bearer("x")},
				"token_ambiguous":       {bearer("x"), bearer("y")},
				"token_too_large":       {bearer(strings.Repeat("x", 9000))},
				"signature_invalid":     {bearer(sign(newSecret(), valid("mark")))},
				"algorithm_not_allowed": {bearer(sign(rsaKey(0), valid("mark")))},
				"token_expired":         {bearer(sign(m.key, with(valid("mark"), claims{"exp": 1})))},
				"identity_missing":      {bearer(sign(m.key, claims{"exp": time.Now().Add(time.Hour).Unix()}))},
				"messenger_unknown":     {bearer("x")},
			}
			const rounds = 200
			for i := range rounds {
				for code, headers := range kinds {
					path := "/sales/"
					if code == "messenger_unknown" {
						path = fmt.Sprintf("/nobody-%d/", i)
					}
					g.get(path, headers...)
				}
			}
			intervals := int(time.Since(began)/(10*time.Second)) + 1
			found := g.lines(ours)[quiet:]
			seen := make(map[string]int)
			for _, l := range found {
				seen[l.Code]++
				if l.Level != "info" || l.Reason == "" || l.Advice == "" || l.Code == "" {
					t.Errorf("a line without what an operator needs: %s", l.text)
				}
			}
			for code := range kinds {
				if seen[code] == 0 {
					t.Errorf("%s is not in the log", code)
				}
			}
			if len(found) > len(kinds)*intervals {
				t.Errorf("%d requests left %d lines, want at most %d", rounds*len(kinds), len(found), len(kinds)*intervals)
			}
			if errors := g.lines(func(l line) bool { return l.Level == "error" }); len(errors) > 0 {
				t.Errorf("a client made %d errors, first %s", len(errors), errors[0].text)
			}
		})
	}
}

// A damaged value in the store concerns one messenger, and any client that knows its name can ask for it at will. Such requests
// are not logged as errors, and cause one line in ten seconds.
func TestLogsUnderAFloodOnADamagedMessenger(t *testing.T) {
	g := newGateway(t, newUpstream(t), "http://")
	g.unlogged = true
	folder := t.TempDir()
	stored := filepath.Join(folder, "messenger", "acme", "stored")
	if err := os.MkdirAll(filepath.Dir(stored), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stored, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.load(strings.Replace(liveOptions, "DIR/store", folder, 1), liveSite)
	quiet, began := len(g.lines(ours)), time.Now()
	for range 200 {
		g.expect("503 keys_unavailable", "/m/acme/", "x")
	}
	intervals := int(time.Since(began)/(10*time.Second)) + 1
	found := g.lines(ours)[quiet:]
	told := 0
	for _, l := range found {
		if l.Level == "error" {
			t.Errorf("a client made an error: %s", l.text)
		}
		if l.Msg == "a stored messenger cannot be read" {
			told++
		}
	}
	if told == 0 || len(found) > 2*intervals {
		t.Errorf("200 requests left %d lines, of which %d say why", len(found), told)
	}
}

// A million valid requests an hour must not be a million lines of ours. The access log has the facts, and never who it was.
func TestValidRequestsAddFieldsToTheAccessLog(t *testing.T) {
	for _, m := range methods(t) {
		t.Run(m.name, func(t *testing.T) {
			g := start(t, newUpstream(t), m.messengers, "messenger_auth support {\n token_from header Authorization Bearer\n token_from query token\n}\nreverse_proxy UPSTREAM")
			token, bad := sign(m.key, valid("mark")), sign(newSecret(), valid("mark"))
			before := len(g.lines(ours))
			for range 100 {
				g.expect("200", "/", token)
			}
			g.get("/?token=" + token)
			if now := g.lines(ours); len(now) != before {
				t.Errorf("101 valid requests left %d lines, first %s", len(now)-before, now[before].text)
			}
			g.get("/", bearer(bad))
			g.get("/")
			access := func(l line) bool { return l.Auth != nil }
			eventually(t, "all requests are logged", func() bool { return len(g.lines(access)) == 103 })
			sum := sha256.Sum256([]byte(token))
			fingerprint := hex.EncodeToString(sum[:4])
			for i, l := range g.lines(access) {
				want := fmt.Sprintf("{support %s required verified header hit %s}", m.name, fingerprint)
				switch i {
				case 0:
					want = strings.Replace(want, "hit", "miss", 1)
				case 100:
					want = strings.Replace(want, "header", "query", 1)
				case 101: // by the hash of an invalid token, clients could fill the log with arbitrary text
					want = fmt.Sprintf("{support %s required %s header miss }", m.name, map[bool]string{true: "algorithm_not_allowed", false: "signature_invalid"}[m.name == "public_key"])
				case 102:
					want = fmt.Sprintf("{support %s required token_missing   }", m.name)
				}
				if got := fmt.Sprint(*l.Auth); got != want {
					t.Errorf("request %d: the log has %s, want %s", i, got, want)
				}
			}
		})
	}
}

// Who changed what, and what the configuration says that is probably not meant, is asked weeks later.
func TestChangesAreAudited(t *testing.T) {
	file := write(t, "secret", []byte(newSecret()))
	keys := newKeyServer(t, publicJWK(rsaKey(0), "k1"))
	g := start(t, newUpstream(t), liveOptions+"\nmessenger sales {\n identity_key identity\n shared_token {file."+file+"}\n}\nmessenger billing {\n identity_key identity\n jwks "+keys.url+"\n}", liveSite)
	g.waitForLog("key set fetched")
	if err := os.WriteFile(file, []byte(newSecret()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys.publish(publicJWK(rsaKey(1), "k2"))
	o := g.operator()
	o.want(200, "POST", "messengers/billing/refresh", map[string]any{})
	o.want(200, "POST", "messengers/support/revocations", map[string]any{"identity": "mark"})
	o.put("acme", generated)
	o.generate("acme")
	o.want(200, "DELETE", "messengers/acme", nil)
	api := "admin API, unix socket"
	for what, by := range map[string]string{
		`"keys changed","messenger":"sales"`:       "the key file",
		`"keys changed","messengers":["billing"]`:  "the key server",
		`"key set refresh requested"`:              api,
		`"messenger created","messenger":"acme"`:   api,
		`"shared token generated"`:                 api,
		`"messenger deleted"`:                      api,
		`this messenger accepts tokens that never`: "the configuration",
		`this messenger accepts every token`:       "the configuration",
		`no shared token was generated yet`:        "the configuration",
	} {
		eventually(t, what+" is audited", func() bool {
			return len(g.lines(func(l line) bool { return strings.HasPrefix(l.Logger, "messenger.audit") && l.By == by })) > 0 &&
				regexp.MustCompile(`"logger":"messenger\.audit(?:\.\w+)?","msg":"?`+regexp.QuoteMeta(strings.TrimPrefix(what, `"`))).MatchString(g.logs())
		})
	}
}
