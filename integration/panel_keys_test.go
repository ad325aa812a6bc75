package integration

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sharedTokenLike looks like a shared token, which a careless operator pastes into the wrong field.
const sharedTokenLike = "mst_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLM"

// hostileLabels are texts that cannot be labels, with what is said about them.
var hostileLabels = map[string]string{
	strings.Repeat("a", 65):        "has more than 64 bytes",
	strings.Repeat("ä", 33):        "has more than 64 bytes",
	"shop\u202epohs":               "has a character that is not visible",
	"shop\u200b":                   "has a character that is not visible",
	"shop\nrevoked by panel, eve":  "has a character that is not visible",
	"\x1b[31mshop":                 "has a character that is not visible",
	sharedTokenLike:                "has a shared token in it, and would show it; write what the token is for",
	"shop " + sharedTokenLike[:40]: "has a shared token in it, and would show it; write what the token is for",
}

// Two sites sign with two shared tokens, and one of them leaks: its operator knows which by its label, and who made it. A label is
// short and printable, is no part of the log, and cannot be given to what makes no token.
func TestSharedTokensHaveLabels(t *testing.T) {
	if !alone(t) {
		return
	}
	g := startPanel(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}")
	u, o := g.panelOperator(), g.operator()
	u.create("acme")
	before := o.ring("acme")
	for label, says := range hostileLabels {
		for _, action := range []string{"generate", "rotate", "reset", "import"} {
			body := map[string]any{"label": label}
			if action == "import" {
				body["secret"] = newSecret()
			}
			if refused := o.refused(400, "POST", "messengers/acme/tokens/"+action, body); refused != "the label "+says {
				t.Errorf("%s with the label %q: %s", action, label, refused)
			}
			a := u.change("acme", action, "label", label, "confirm", "yes", "overlap", "24h", "secret", newSecret())
			a.says(t, 422, "Label "+says)
			if !strings.Contains(a.body, `id="label-`+action+`" name="label"`) || !strings.Contains(a.body, `aria-describedby="label-`+action+`-error `) {
				t.Errorf("%s: the mistake is not at its field: %s", action, a.body)
			}
		}
	}
	o.refused(400, "POST", "messengers/acme/tokens/generate", map[string]any{"label": " shop"})
	o.refused(400, "POST", "messengers/acme/tokens/generate", map[string]any{"label": 7})
	for _, action := range []string{"revoke", "extend"} {
		o.refused(400, "POST", "messengers/acme/tokens/"+action, map[string]any{"kid": before.Tokens[0].KID, "label": "shop"})
	}
	if after := o.ring("acme"); len(after.Tokens) != 1 || after.Revision != before.Revision {
		t.Fatalf("something was changed: %v", after)
	}

	// All mistakes of a form are named at once, and what was typed is there again, except for the secret.
	secret := "too short!"
	a := u.change("acme", "import", "secret", secret, "kid", strings.Repeat("k", 300), "label", "a\tb", "encoding", "base64url")
	a.says(t, 422, "3 things need your attention", "The secret ", "Key ID has more than", "Label has a character that is not visible")
	if strings.Contains(a.body, secret+`"`) || !strings.Contains(a.body, strings.Repeat("k", 300)) || !strings.Contains(a.body, `value="base64url" selected`) || strings.Count(a.body, "aria-invalid") != 3 {
		t.Errorf("the form is not as it was typed: %s", a.body)
	}

	// The secret, pasted into the fields beside its own as well, is not shown by any of them.
	secret = newSecret()
	a = u.change("acme", "import", "secret", secret, "kid", secret, "label", "my shop")
	a.says(t, 422, "Key ID has a secret in it")
	if strings.Contains(a.body, secret) {
		t.Error("the page shows the secret")
	}
	a = u.change("acme", "import", "secret", secret[:40], "kid", sharedTokenLike, "label", "my "+secret[:40])
	a.says(t, 422, "2 things need your attention", "Key ID has a secret in it", "Label has the secret in it")
	if strings.Contains(a.body, secret[:40]) || strings.Contains(a.body, sharedTokenLike) {
		t.Error("the page shows the secret")
	}
	if text := o.refused(400, "POST", "messengers/acme/tokens/import", map[string]any{"secret": secret[:40], "label": secret[:40]}); text != "the label has the secret in it, and would show it; write what the token is for" {
		t.Errorf("got %s", text)
	}
	o.refused(400, "POST", "messengers/acme/tokens/import", map[string]any{"secret": secret, "kid": "k" + secret})
	o.refused(400, "POST", "messengers/acme/tokens/import", map[string]any{"secret": secret, "kid": "a\u202eb"})

	const shop, crm, mark = "web shop", "CRM <b>&amp;</b> 日本", "Ünïcödé"
	u.change("acme", "rotate", "overlap", "24h", "label", shop).says(t, 200, "Label "+shop)
	o.makeToken("generate", "acme", map[string]any{"label": crm})
	if a := u.change("acme", "import", "secret", newSecret(), "kid", "old-site", "label", mark); a.status != 303 {
		t.Fatalf("import: %d %s", a.status, a.text())
	}
	u.change("support", "generate", "label", shop).secret(t)
	var list struct {
		Tokens []struct {
			Label  string
			MadeBy string `json:"made_by"`
		}
	}
	decode(t, o.want(200, "GET", "messengers/acme/tokens", nil).body, &list)
	if got := fmt.Sprint(list.Tokens); !regexp.MustCompile(`^\[\{` + mark + ` panel, operator\} \{` + regexp.QuoteMeta(crm) + ` [^}]+\} \{` + shop + ` panel, operator\} \{ panel, operator\}\]$`).MatchString(got) {
		t.Errorf("the list has %s", got)
	}
	page := u.get("?page=keys&messenger=acme")
	page.says(t, 200, shop, mark, "Made by panel, operator", "no end date")
	if !strings.Contains(page.body, "CRM &lt;b&gt;&amp;amp;&lt;/b&gt; 日本") {
		t.Errorf("the label is not escaped: %s", page.body)
	}
	var keys struct{ Keys []struct{ KID, Label string } }
	decode(t, o.want(200, "GET", "messengers/support/keys", nil).body, &keys)
	if len(keys.Keys) != 1 || keys.Keys[0].Label != shop {
		t.Errorf("keys has %v", keys)
	}

	// A site owner sees labels, and not the addresses and certificates of the admin API's clients.
	own := g.owner("acme").get("?page=keys&messenger=acme")
	own.says(t, 200, shop, "Made by an operator of the gateway", "Made by panel, operator")

	cli := &administrator{newShell(t), []string{"--address", "unix/" + g.sock}}
	out := cli.want(0, shop, "", "tokens", "list", "acme").out
	for _, says := range []string{"label        " + shop, "generated    2", " by panel, operator\n", "active, no end date\n", "ending, until 2", "last used    not yet\n"} {
		if !strings.Contains(out, says) {
			t.Errorf("tokens list does not say %q: %s", says, out)
		}
	}
	cli.want(0, `label "web shop"`, "", "keys", "support")
	cli.want(0, "shared token", newSecret()+"\n", "tokens", "import", "support", "--label", "from the old site")
	cli.want(1, "the label has more than 64 bytes", "", "tokens", "generate", "support", "--label", strings.Repeat("x", 65))
	cli.want(0, "from the old site", "", "tokens", "list", "support")
	for _, label := range []string{shop, crm, mark, "from the old site"} {
		if strings.Contains(g.logs(), label) {
			t.Errorf("the log has the label %q", label)
		}
	}
}

// gauge is the value of a metric for a messenger.
func (g *gateway) gauge(name, messenger string) float64 {
	g.t.Helper()
	a, err := g.operator().send(http.MethodGet, "../metrics", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + metricPrefix + name + `\{messenger="` + messenger + `"\} (\S+)$`).FindStringSubmatch(a.body)
	if found == nil {
		g.t.Fatalf("there is no %s of %s", name, messenger)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		g.t.Fatal(err)
	}
	return value
}

// A site was given a new shared token and forgets to sign with it. Before the old one expires, and all contacts are refused at once,
// the messenger's pages, the list, the admin API and a metric say so; when the site signs with the new one, none of them does.
func TestSiteIsWarnedBeforeTheTokenInUseExpires(t *testing.T) {
	g := startPanel(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}")
	u, o := g.panelOperator(), g.operator()
	const metric, warning = "shared_token_in_use_end_seconds", "Your site still signs with the shared token"
	stored := u.create("acme")
	configured := u.change("support", "generate").secret(t)
	use := func(name, token string) {
		t.Helper()
		if a := g.get("/"+name+"/", bearer(sign(token, valid("mark")))); a.status != 200 {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
	}
	for name, old := range map[string]string{"acme": stored, "support": configured} {
		label := map[string]string{"acme": "stored", "support": "support"}[name]
		quiet := func(when string) {
			t.Helper()
			for _, page := range []string{"", "keys", "embed"} {
				if a := u.get("?messenger=" + name + "&page=" + page); strings.Contains(a.text(), warning) || strings.Contains(a.text(), "Key expires soon") {
					t.Errorf("%s, %s: the page %q warns: %s", name, when, page, a.text())
				}
			}
			if got := g.gauge(metric, label); !math.IsInf(got, 1) {
				t.Errorf("%s, %s: the metric is %v", name, when, got)
			}
		}
		use(name, old)
		quiet("before the rotation")
		made := u.change(name, "rotate", "overlap", "168h").secret(t)
		if got := g.gauge(metric, label); got < 6*24*3600 || got > 7*24*3600 {
			t.Errorf("%s: the metric is %v a week before the end", name, got)
		}
		u.get("?messenger="+name).says(t, 200, "Key active")
		r := o.ring(name)
		kid := r.Tokens[len(r.Tokens)-1].KID // the old one, last: it gets an earlier end by being replaced
		if name == "acme" {
			o.want(200, "POST", "messengers/"+name+"/tokens/revoke", map[string]any{"kid": kid})
			old, made = made, o.makeToken("rotate", name, map[string]any{"overlap": "2h"}).Token
			use(name, old)
		} else {
			o.want(200, "POST", "messengers/"+name+"/tokens/revoke", map[string]any{"kid": kid})
			old, made = made, u.change(name, "rotate", "overlap", "1h").secret(t)
			use(name, old)
		}
		if got := g.gauge(metric, label); got > 2*3600 {
			t.Errorf("%s: the metric is %v", name, got)
		}
		var list []struct {
			Name  string
			State struct {
				Keys   string
				Ending struct {
					KID    string
					End    time.Time
					Next   string `json:"next_kid"`
					Unused bool   `json:"next_unused"`
				}
			}
		}
		decode(t, o.want(200, "GET", "messengers?state=true&search="+name, nil).body, &list)
		r = o.ring(name)
		newest, former := r.Tokens[0], r.Tokens[1]
		if state := list[0].State; state.Keys != "ending" || state.Ending.KID != former.KID || state.Ending.Next != newest.KID || !state.Ending.Unused || !state.Ending.End.Equal(former.End.Truncate(time.Second)) {
			t.Errorf("%s: the state is %+v", name, state)
		}
		for _, page := range []string{"", "keys", "embed", "history"} {
			u.get("?messenger="+name+"&page="+page).says(t, 200, warning+" "+former.KID, "The newer one, "+newest.KID+" , was never used.", "Key expires soon")
		}
		u.get("").says(t, 200, "Key expires soon")
		use(name, made)
		quiet("the site signs with the new one")
	}
}

// Ten public keys fill ten screens: they are folded, those that are wrong are open, and a save loses none.
func TestManyPublicKeysAreFolded(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.post("?page=new", tenKeys(fields("name", "many", "method", "public_key")))
	u.post("?page=new", fields("name", "one", "method", "public_key", "key", string(publicPEM(rsaKey(0)))))
	fold := `<details class="fold">`
	for query, want := range map[string]int{"?messenger=many": 10, "?messenger=one": 0, "?messenger=many&page=keys": 1, "?messenger=one&page=keys": 0} {
		if a := u.get(query); strings.Count(a.body, fold) != want {
			t.Errorf("%s: %d folds, want %d", query, strings.Count(a.body, fold), want)
		}
	}
	u.get("?messenger=many").says(t, 200, "Public key 1, key ID key-0", "Public key 10, key ID key-9")
	form := u.get("?messenger=many").browserForm(t)
	form["key"][6] = "not a key"
	a := u.post("?messenger=many", form)
	a.says(t, 422, "Public key 7 ")
	if strings.Count(a.body, `<details class="fold" open>`) != 1 || strings.Count(a.body, fold) != 9 {
		t.Errorf("not exactly the wrong key is open: %s", a.body)
	}
	before := fmt.Sprint(g.storedSettings("many"))
	form = u.get("?messenger=many").browserForm(t)
	if a := u.post("?messenger=many", form); a.status != 303 || fmt.Sprint(g.storedSettings("many")) != before {
		t.Errorf("a save without a change: %d", a.status)
	}
}
