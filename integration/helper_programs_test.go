package integration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A tool runs the endpoint /chat-token of one language. run returns an error if what the language needs is not installed.
type tool struct {
	language, file string
	nobody         string // how the program says that the visitor is not logged in, and what a site writes there
	session        string
	name           string // how it reads an environment variable
	run            func(dir, file, port string) (*exec.Cmd, error)
}

var tools = []tool{
	{"node", "chat-token.mjs", "const id = null", "const id = request.headers.cookie === 'session=mark' ? process.env.IDENTITY : null", "process.env.NAME",
		func(dir, file, _ string) (*exec.Cmd, error) { return interpreter(dir, "node", file) }},
	{"python", "chat_token.py", "id = None", `id = os.environ["IDENTITY"] if environ.get("HTTP_COOKIE") == "session=mark" else None`, `os.environ["NAME"]`,
		func(dir, file, _ string) (*exec.Cmd, error) { return pythonWithJWT(dir, file) }},
	{"php", "public/chat-token.php", "$id = null", `$id = ($_COOKIE['session'] ?? '') === 'mark' ? getenv('IDENTITY') : null`, "getenv('NAME')",
		func(dir, file, port string) (*exec.Cmd, error) {
			return exec.Command("php", "-S", "127.0.0.1:"+port, file), probe("php", dir, "php", "--version")
		}},
	{"go", "chat-token.go", `id := ""`, `id := map[string]string{"session=mark": os.Getenv("IDENTITY")}[r.Header.Get("Cookie")]`, `os.Getenv("NAME")`,
		func(dir, file, _ string) (*exec.Cmd, error) { return interpreter(dir, "go", file) }},
	{"java", "ChatToken.java", "String id = null", `String id = "session=mark".equals(request.getRequestHeaders().getFirst("Cookie")) ? System.getenv("IDENTITY") : null`, `System.getenv("NAME")`,
		func(_, file, _ string) (*exec.Cmd, error) { return javaSource(file) }},
	{"csharp", "ChatToken.cs", "string id = null", `string id = request.Headers["Cookie"] == "session=mark" ? Environment.GetEnvironmentVariable("IDENTITY") : null`, `Environment.GetEnvironmentVariable("NAME")`,
		runOnMono},
}

var (
	errBroken     = errors.New("the program does not compile")
	errSyntaxOnly = errors.New("it needs .NET; its syntax was checked")
	errUnsigned   = errors.New("the page says that this language does not sign with the algorithm")
)

// runOnMono compiles the program for Mono, with two functions of .NET that Mono does not have. Of keys Mono knows RSA alone.
func runOnMono(dir, file, _ string) (*exec.Cmd, error) {
	if err := probe("csharp", dir, "mcs", "--version"); err != nil {
		return nil, err
	}
	if out, err := command(dir, exec.Command("mcs", "--parse", file)); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", errBroken, err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if regexp.MustCompile(`ECDsa|\.Pss|FromHexString`).Match(text) {
		return nil, errSyntaxOnly
	}
	functions, err := filepath.Abs("testdata/mono.cs")
	if err != nil {
		return nil, err
	}
	binary := strings.TrimSuffix(file, ".cs") + ".exe"
	if out, err := command(dir, exec.Command("mcs", "-out:"+binary, "-r:System.Web.Extensions", "-r:Mono.Security", file, functions)); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", errBroken, err, out)
	}
	return exec.Command("mono", binary), nil
}

// everySigner returns a messenger for every algorithm, and for every encoding of a shared token.
func everySigner(t *testing.T) map[string]signer {
	list := make(map[string]signer)
	public := func(algorithm string, key crypto.Signer) {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ToLower(algorithm)
		file := write(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		list[name] = signer{config: "public_key {file." + file + "} kid 2026 alg " + algorithm, key: key}
	}
	for _, algorithm := range []string{"RS384", "RS512", "PS256", "PS384", "PS512"} {
		public(algorithm, rsaKey(0))
	}
	for algorithm, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public(algorithm, key)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public("EdDSA", edwards)
	secret := []byte(newSecret() + newSecret())[:65] // of a length that makes padding
	for encoding, text := range map[string]string{"raw": string(secret), "base64": base64.StdEncoding.EncodeToString(secret),
		"base64url": base64.RawURLEncoding.EncodeToString(secret), "hex": hex.EncodeToString(secret)} {
		search.secret(text)
		file := write(t, encoding+".token", []byte(text))
		for _, algorithm := range []string{"HS384", "HS512"} {
			list[strings.ToLower(algorithm)+"-"+encoding] = signer{config: "shared_token {file." + file + "} " + encoding + " {\nalg " + algorithm + "\n}", secret: text}
		}
	}
	return list
}
