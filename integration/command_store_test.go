package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An administrator types commands: where says how they find the gateway, or the storage.
type administrator struct {
	*shell
	where []string
}

func (a *administrator) run(input string, args ...string) ran {
	a.t.Helper()
	return a.messenger(input, append(args, a.where...)...)
}

// want runs a command that has to end with status and to say something: on standard output if it goes well, and on
// standard error if not. After an error standard output has to be empty, because scripts pipe it.
func (a *administrator) want(status int, says, input string, args ...string) ran {
	a.t.Helper()
	ran := a.run(input, args...)
	said := ran.out
	if status != 0 {
		said = ran.err
		if ran.out != "" {
			a.t.Errorf("%v: what failed prints %q", args, ran.out)
		}
	}
	if ran.status != status || !strings.Contains(said, says) {
		a.t.Errorf("%v: status %d, want %d and %q\n%s%s", args, ran.status, status, says, ran.out, ran.err)
	}
	return ran
}

// token runs a command that makes a token, which stands alone on standard output.
func (a *administrator) token(name string, args ...string) string {
	a.t.Helper()
	ran := a.run("", args...)
	token := strings.TrimSuffix(ran.out, "\n")
	search.secret(token)
	if ran.status != 0 || !regexp.MustCompile(`^mst_[A-Za-z0-9_-]{49}\n$`).MatchString(ran.out) {
		a.t.Errorf("%v: status %d, and standard output is no token alone (%d bytes): %s", args, ran.status, len(ran.out), ran.err)
	}
	if !strings.Contains(ran.err, "of messenger "+name+"; it is shown only this once") || holds([]byte(ran.err), token) {
		a.t.Errorf("%v: standard error is %s", args, ran.err)
	}
	if strings.Contains(ran.err, "clipboard") {
		a.t.Errorf("%v: a hint for terminals is printed where there is none: %s", args, ran.err)
	}
	return token
}

// The commands do the same over a socket and offline on the storage itself. Over TCP, and by the configuration file, only
// how they find the gateway differs from the first.
func TestCommandsForMessengersAndTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, how := range []string{"unix socket", "TCP", "configuration file", "offline"} {
		t.Run(how, func(t *testing.T) {
			folder := t.TempDir()
			g := newGateway(t, nil, "http://")
			text := g.caddyfile(sealedOptions(folder, storeKeyFile(t)), sealedSite)
			a := &administrator{newShell(t), []string{"--address", "unix/" + g.sock}}
			config := filepath.Join(a.dir, "Caddyfile")
			switch how {
			case "TCP":
				address := freeAddr(t)
				text = strings.Replace(text, "admin unix//"+g.sock, "admin "+address, 1)
				a.where = []string{"--address", address}
			case "configuration file":
				a.where = []string{"--config", config}
			case "offline":
				text = strings.Replace(text, "admin unix//"+g.sock, "admin off", 1)
				a.where = []string{"--offline", "--config", config}
			}
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if how == "offline" { // before the first start
				a.want(4, "generate", "", "tokens", "rotate", "sales", "--new-store")
				a.token("sales", "tokens", "generate", "sales", "--new-store")
			}
			g.replace(g.conf(text))
			if how == "TCP" || how == "configuration file" {
				tryEveryMethod(a, g)
				return
			}
			tryMessengers(a)
			tryTokens(a, g)
			a.want(0, "0 values resealed", "", "reseal")
		})
	}
}

// tryEveryMethod runs a command for each method of the admin API, and for each way in which it answers.
func tryEveryMethod(a *administrator, g *gateway) {
	a.t.Helper()
	create := []string{"create", "acme", "--identity-key", "identity", "--shared-token"}
	a.want(0, "messenger acme (shared_token, mode required), from the storage", "", create...)
	a.want(4, "there is a stored messenger of this name already", "", create...)
	var shown described
	decode(a.t, a.want(0, "{", "", "show", "acme", "--json").out, &shown)
	if shown.Name != "acme" || shown.Settings["identity_key"] != "identity" {
		a.t.Errorf("show --json: %+v", shown)
	}
	token := sign(a.token("acme", "tokens", "generate", "acme"), valid("mark"))
	patiently(a.t, "the gateway accepts the token", func() bool { return g.verdict("/m/acme/x", token) == "200" })
	a.want(0, "messenger acme is deleted", "", "delete", "acme")
	a.want(3, "there is no messenger", "", "tokens", "generate", "acme")
}

func tryMessengers(a *administrator) {
	a.t.Helper()
	acme := []string{"create", "acme", "--identity-key", "identity", "--shared-token", "--require-claims", "exp"}
	a.want(0, "support", "", "list")
	a.want(3, "there is no messenger of this name", "", "show", "acme")
	a.want(0, "messenger acme (shared_token, mode required), from the storage", "", acme...)
	a.want(4, "there is a stored messenger of this name already", "", acme...)
	a.want(0, "mode optional", "", append(acme, "--replace", "--mode", "optional")...)
	a.want(3, "there is no messenger", "", "create", "nobody", "--identity-key", "identity", "--shared-token", "--replace")
	a.want(4, "configuration", "", "create", "support", "--identity-key", "identity", "--shared-token")
	a.want(4, "configuration", "", "create", "support", "--identity-key", "identity", "--shared-token", "--replace")
	a.want(1, "identity_key is missing", "", "create", "new", "--shared-token")
	a.want(1, "exactly one", "", "create", "new", "--identity-key", "identity")
	a.want(1, "--clock-skew", "", "create", "new", "--identity-key", "identity", "--shared-token", "--clock-skew", "soon")
	a.want(1, "jwks_internal_hosts", "", "create", "new", "--identity-key", "identity", "--jwks", "https://www.example.com:8443/")

	var shown described
	decode(a.t, a.want(0, "{", "", "show", "acme", "--json").out, &shown)
	if shown.Name != "acme" || shown.Mode != "optional" || shown.Revision == "" || shown.Settings["identity_key"] != "identity" {
		a.t.Errorf("show --json: %+v", shown)
	}
	settings, err := json.Marshal(shown.Settings)
	if err != nil {
		a.t.Fatal(err)
	}
	a.want(0, "messenger copy (shared_token, mode optional)", string(settings), "create", "copy", "--settings", "-")
	a.want(1, `unknown member "distrust"`, `{"identity_key":"a","shared_token":{},"distrust":true}`, "create", "new", "--settings", "-")
	a.want(1, "--settings ends too early", `{`, "create", "new", "--settings", "-")
	key := write(a.t, "key.pem", publicPEM(rsaKey(0)))
	a.want(0, "messenger bolt (public_key", "", "create", "bolt", "--identity-key", "sub", "--public-key", key, "--kid", "2026")
	a.want(1, "private", "", "create", "new", "--identity-key", "sub", "--public-key", write(a.t, "private.pem", privatePEM(rsaKey(0))))
	a.want(1, "--kid is given more often", "", "create", "new", "--identity-key", "sub", "--public-key", key, "--kid", "a", "--kid", "b")
	a.want(1, "--public-key", "", "create", "new", "--identity-key", "sub", "--public-key", filepath.Join(a.dir, "nothing"))

	var list []described
	decode(a.t, a.want(0, "[", "", "list", "--json").out, &list)
	var names []string
	for _, m := range list {
		names = append(names, m.Name)
	}
	if got := strings.Join(names, " "); got != "sales support acme bolt copy" {
		a.t.Errorf("list --json has %s", got)
	}
	a.want(0, "messenger bolt is deleted", "", "delete", "bolt")
	a.want(3, "there is no messenger", "", "delete", "bolt")
	a.want(4, "configuration", "", "delete", "support")

	// A token in the place of a name is a mistake that is made, and not repeated: it would stand in scroll-back and logs.
	secret := "mst_" + newSecret()
	for _, args := range [][]string{{"show", secret}, {"delete", secret}, {"tokens", "list", secret}, {"tokens", "generate", secret}, {"create", secret, "--identity-key", "a", "--shared-token"}} {
		a.want(1, "the argument is not the name of a messenger", "", args...)
	}
	a.want(1, "name the messenger", "", "delete")
	a.want(1, "", "", "tokens", "burn", "acme")
}

func tryTokens(a *administrator, g *gateway) {
	a.t.Helper()
	in := func(token string) string { return sign(token, valid("mark")) }
	known := func(want, path, token string) {
		a.t.Helper()
		patiently(a.t, "the gateway answers "+want, func() bool { return g.verdict(path, in(token)) == want })
	}
	a.want(0, "has no shared token yet", "", "tokens", "list", "acme")
	a.want(4, "generate", "", "tokens", "rotate", "acme")
	first := a.token("acme", "tokens", "generate", "acme")
	known("200", "/m/acme/x", first)
	second := a.token("acme", "tokens", "rotate", "acme", "--overlap", "1h")
	known("200", "/m/acme/x", second)
	known("200", "/m/acme/x", first)
	var r ring
	decode(a.t, a.want(0, "{", "", "tokens", "list", "acme", "--json").out, &r)
	if len(r.Tokens) != 2 || r.Tokens[0].State != "active" || r.Tokens[1].State != "ending" {
		a.t.Fatalf("the ring has %+v", r)
	}
	a.want(0, r.Tokens[1].KID, "", "tokens", "list", "acme")
	a.want(0, "is revoked", "", "tokens", "revoke", "acme", "--kid", r.Tokens[1].KID)
	known("401 signature_invalid", "/m/acme/x", first)
	a.want(3, "no shared token with this kid", "", "tokens", "revoke", "acme", "--kid", r.Tokens[1].KID)
	a.want(1, "--kid is missing", "", "tokens", "revoke", "acme")
	third := a.token("acme", "tokens", "reset", "acme")
	known("200", "/m/acme/x", third)
	known("401 signature_invalid", "/m/acme/x", second)
	a.want(1, "--overlap", "", "tokens", "rotate", "acme", "--overlap", "tomorrow")
	a.want(1, "overlap", "", "tokens", "rotate", "acme", "--overlap", "9000h")
	for _, action := range []string{"generate", "rotate", "reset", "list"} {
		a.want(3, "there is no messenger", "", "tokens", action, "nobody")
	}
	configured := a.token("support", "tokens", "generate", "support")
	known("200", "/support/x", configured)
}

// What cannot be asked says where it looked, and how to look elsewhere.
func TestCommandsWithoutAGateway(t *testing.T) {
	a := &administrator{newShell(t), []string{"--address", "unix/" + filepath.Join(sockDir, "nobody")}}
	a.want(1, "is the gateway running", "", "list")
	a.want(1, "is the gateway running", "", "tokens", "generate", "support")
	a.want(1, "exclude each other", "", "list", "--offline")
	a.where = []string{"--offline", "--config", filepath.Join(a.dir, "nothing")}
	a.want(1, "nothing", "", "list")
	g := start(t, nil, "", "respond ok") // a Caddy that has no messenger at all
	a.where = []string{"--address", "unix/" + g.sock}
	a.want(3, "has no messenger", "", "list")
}

// Without a gateway the commands read and write the storage that the configuration names, and keep to its rules.
func TestOfflineCommandsFollowTheStoreRules(t *testing.T) {
	if !alone(t) {
		return
	}
	a := &administrator{shell: newShell(t)}
	oldKey, newKey := storeKeyFile(t), storeKeyFile(t)
	s := newSealedStore(t, oldKey)
	config := func(keyFiles ...string) {
		t.Helper()
		file := write(t, "Caddyfile", []byte("{\n admin off\n "+sealedOptions(s.folder, keyFiles...)+"\n}\n"))
		a.where = []string{"--offline", "--config", file}
	}
	config()
	a.want(1, "no store key is configured", "", "tokens", "list", "support")
	a.want(1, "no store key is configured", "", "tokens", "generate", "support")
	a.want(4, "store { key", "", "reseal")
	config(newKey)
	a.want(1, "sealed with a key that is not configured", "", "reseal")
	config(newKey, oldKey)
	a.want(0, " values resealed", "", "reseal")
	config(newKey)
	made := a.token("support", "tokens", "rotate", "support", "--overlap", "1h")
	g := start(t, nil, sealedOptions(s.folder, newKey), sealedSite)
	g.expect("200", "/support/x", sign(made, valid("mark")))
	g.expect("200", "/support/x", s.tokens["support"].signed())
}
