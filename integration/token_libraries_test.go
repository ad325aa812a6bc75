package integration

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// published is what a site publishes, and a token that it has signed.
type published struct {
	Set   json.RawMessage `json:"set"`
	Token string          `json:"token"`
}

func fromNodeJose(t *testing.T) (p published) {
	out, err := nodeWithClients(t, filepath.Join("testdata", "jose.cjs")).Output()
	if err != nil || json.Unmarshal(out, &p) != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return p
}

func fromGoJose(t *testing.T) (p published) {
	key := rsaKey(0)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "2026"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Token, err = jwt.Signed(signer).Claims(map[string]any{"identity": "mark", "exp": time.Now().Add(time.Hour).Unix()}).Serialize(); err != nil {
		t.Fatal(err)
	}
	if p.Set, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "2026", Use: "sig", Algorithm: "RS256"}}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// What the usual libraries publish and sign works from a URL, and pasted as a public key.
func TestUsualLibrariesPublishAndSign(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, library := range map[string]func(t *testing.T) published{"npm jose": fromNodeJose, "go-jose": fromGoJose} {
		t.Run(name, func(t *testing.T) {
			p := library(t)
			search.secret(p.Token)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.Set) }))
			defer server.Close()
			up := newUpstream(t)
			g := start(t, up, "messenger fetched {\n identity_key identity\n jwks "+server.URL+"\n}\nmessenger pasted {\n identity_key identity\n public_key {file."+write(t, "set.json", p.Set)+"}\n}", `
				handle /fetched/* {
					messenger_auth fetched
					reverse_proxy UPSTREAM
				}
				handle {
					messenger_auth pasted
					reverse_proxy UPSTREAM
				}`)
			for _, path := range []string{"/fetched/", "/pasted/"} {
				if a := g.get(path, bearer(p.Token)); a.status != 200 || up.one(t).header.Get("X-Contact-Identity") != "mark" {
					t.Errorf("%s: got %d %s", path, a.status, a.body)
				}
			}
		})
	}
}

// What openssl and ssh-keygen write is a public key in each of its forms; what they write for the owner alone is refused.
func TestKeysOfOpenSSLAndSSHKeygen(t *testing.T) {
	if !alone(t) {
		return
	}
	openssl, keygen := requireTool(t, "openssl"), requireTool(t, "ssh-keygen")
	dir := t.TempDir()
	run := func(name string, args ...string) []byte {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %q: %v", name, args, err)
		}
		return out
	}
	run(openssl, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem")
	if err := os.Chmod(filepath.Join(dir, "key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(openssl, "req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=site", "-out", "cert.pem")
	text, err := os.ReadFile(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	token := sign(private.(*rsa.PrivateKey), valid("mark"))
	public := run(openssl, "pkey", "-in", "key.pem", "-pubout")
	forms := map[string][]byte{
		"pkey -pubout":              public,
		"pkey -pubout -outform DER": run(openssl, "pkey", "-in", "key.pem", "-pubout", "-outform", "DER"),
		"rsa -RSAPublicKey_out":     run(openssl, "rsa", "-in", "key.pem", "-RSAPublicKey_out"),
		"x509":                      run(openssl, "x509", "-in", "cert.pem"),
		"x509 -text":                run(openssl, "x509", "-in", "cert.pem", "-text"),
		"x509 -outform DER":         run(openssl, "x509", "-in", "cert.pem", "-outform", "DER"),
		"base64 -w0":                []byte(base64.StdEncoding.EncodeToString(public)),
		"awk, for a line of dotenv": []byte(strings.ReplaceAll(string(public), "\n", `\n`)),
		"ssh-keygen -y":             run(keygen, "-y", "-f", "key.pem"),
		"ssh-keygen -e -m PKCS8":    run(keygen, "-e", "-m", "PKCS8", "-f", "key.pem"),
		"ssh-keygen -e -m PEM":      run(keygen, "-e", "-m", "PEM", "-f", "key.pem"),
	}
	up := newUpstream(t)
	var messengers, site strings.Builder
	names := make(map[string]string)
	for form, text := range forms {
		name := "m" + string(rune('a'+len(names)))
		names[name] = form
		messengers.WriteString("messenger " + name + " {\n identity_key identity\n public_key {file." + write(t, name, text) + "}\n}\n")
	}
	site.WriteString("messenger_auth {path.0}\nreverse_proxy UPSTREAM")
	g := start(t, up, messengers.String(), site.String())
	for name, form := range names {
		if a := g.get("/"+name+"/", bearer(token)); a.status != 200 {
			t.Errorf("%s: got %d %s", form, a.status, a.body)
		}
	}
}
