package integration

import (
	"html"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A site developer copies a program from the page Embed. It signs a token that this messenger accepts, in every language
// and with every method, also where issuer and audience have characters that a program could trip over.
func TestPanelSamplesSignTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	const odd = `it's "quoted" \n ${x} $y #{z} %s é`
	up := newUpstream(t)
	g := startPanel(t, up, "")
	u := g.panelOperator()
	if a := u.post("?page=new", fields("name", "secret", "identity_key", "https://example.com/id", "issuer", odd, "audience", odd+"aud", "max_lifetime", "5m", "token_type", "at+jwt", "require_claims", "exp\niat\nname")); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	secret := u.change("secret", "generate").secret(t)
	// The library for Node writes a header that is not ASCII in Latin-1, so that the kid is ASCII here.
	if a := u.post("?page=new", fields("name", "public", "method", "public_key", "key", string(publicPEM(rsaKey(0))), "kid", strings.TrimSuffix(odd, " é"), "token_type", "application/Chat+JWT", "audience", odd)); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	for _, messenger := range []string{"secret", "public"} {
		page := u.get("?page=embed&messenger=" + messenger)
		page.says(t, 200, "On your server: sign a token", "'chat.v1', \"chat.token\", await chatToken()")
		for _, tool := range tools {
			t.Run(messenger+" "+tool.language, func(t *testing.T) {
				found := regexp.MustCompile(`(?s)<code id="sample-` + tool.language + `">(.*?)</code>`).FindStringSubmatch(page.body)
				if found == nil {
					t.Fatal("the page has no sample")
				}
				dir := t.TempDir()
				writeSample(t, filepath.Join(dir, "chat.key.pem"), string(privatePEM(rsaKey(0))))
				file := filepath.Join(dir, tool.file)
				writeSample(t, file, html.UnescapeString(found[1]))
				cmd, err := tool.run(t, dir, file)
				if err != nil {
					if slices.Contains(strings.Fields(os.Getenv("MESSENGER_REQUIRE_TOOLS")), tool.language) {
						t.Fatalf("%s or its library is not installed, and MESSENGER_REQUIRE_TOOLS names it: %v", tool.language, err)
					}
					t.Skipf("not run: %s or its library is not installed", tool.language)
				}
				cmd.Env = append(os.Environ(), "CHAT_SHARED_TOKEN="+secret)
				token, err := command(dir, cmd)
				if err != nil {
					t.Fatalf("%v\n%s", err, token)
				}
				g.passes(t, up, messenger, strings.TrimSpace(token), "mark")
			})
		}
	}
}
