package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// What a page quotes of the log and of commands is what the gateway says, when an operator has made these mistakes.
func TestDocsTroubleshootingQuotesTheGateway(t *testing.T) {
	if !alone(t) {
		return
	}
	key, other := write(t, "support.pem", publicPEM(rsaKey(0))), write(t, "sales.token", []byte(newSecret()))
	g := start(t, newUpstream(t), `
	messenger {
		poll_interval 50ms
		assertion_issuer https://chat.example.com
	}
	messenger support {
		identity_key identity
		public_key {file.`+key+`}
	}
	messenger unused {
		identity_key identity
		shared_token {file.`+other+`} raw
	}
	messenger copy {
		identity_key identity
		shared_token {file.`+other+`} raw
	}
	messenger generated {
		identity_key identity
		shared_token
	}
	messenger fetched {
		identity_key identity
		audience chat
		jwks http://127.0.0.1:1/jwks.json
	}`, `
	handle /two {
		route {
			messenger_auth support
			messenger_auth generated
		}
	}
	handle {
		messenger_auth support {
			token_from query token
			assertion {
				audience chat-backend
			}
		}
		reverse_proxy UPSTREAM
	}`)
	if err := os.WriteFile(key, []byte("half of a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.get("/two", bearer(sign(rsaKey(0), valid("mark"))))
	page := docsPage(t, "troubleshooting")
	quoted := regexp.MustCompile(`\| "([^"|]+)" \|`).FindAllStringSubmatch(section(page, "The log shows"), -1)
	if len(quoted) < 8 {
		t.Fatalf("the page quotes %d messages", len(quoted))
	}
	// The storage's own faults are made elsewhere: store_fault_lost_test.go, store_redis_test.go, conn_streams_test.go.
	elsewhere := []string{expected.wentBackLog, "store cannot be read; what was read before stays active", "facts in the store have times that are more than an hour ahead", "aborting with incomplete response"}
	quoted = append(quoted, []string{"", "one request reached messenger_auth for two messengers"})
	for _, message := range quoted {
		if !slices.Contains(elsewhere, message[1]) {
			g.waitForLog(message[1])
		}
	}
	shell := newShell(t)
	address := "unix/" + g.sock
	if ran := shell.messenger(sign(rsaKey(0), valid("mark")), "explain", "fetched", "--address", address); ran.status != 1 || !strings.Contains(ran.out, "503 keys_unavailable") {
		t.Errorf("explain without keys ended with %d, want 1, because the token may be valid:\n%s", ran.status, ran.out)
	}
	for text, args := range map[string][]string{
		"the key server cannot be reached":                        {"keys", "fetched", "--address", address},
		"has no shared token yet":                                 {"tokens", "list", "generated", "--address", address},
		"is the gateway running, and is this its admin endpoint?": {"list", "--address", "unix/" + filepath.Join(t.TempDir(), "none")},
		"there is no store in":                                    {"list", "--offline", "--config", shell.file("Caddyfile", "{\n\tstorage file_system "+t.TempDir()+"\n\tmessenger {\n\t}\n}\n")},
	} {
		ran := shell.messenger("", args...)
		if !strings.Contains(ran.out+ran.err, text) || !strings.Contains(page, text) {
			t.Errorf("%v says %q and %q, and the page quotes %q", args, ran.out, ran.err, text)
		}
	}
}

// Every command of the documentation exists, with its flags.
func TestDocsCommandsExist(t *testing.T) {
	root := &cobra.Command{Use: "messenger"}
	caddycmd.Commands()["messenger"].CobraFunc(root)
	seen := 0
	for _, path := range allPages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("caddy messenger ([^\n`|<>;)#\"]+)").FindAllStringSubmatch(strings.ReplaceAll(string(text), "\\|", "|"), -1) {
			words := strings.Fields(strings.TrimRight(found[1], ".:,'* "))
			if len(words) == 0 || !regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
				continue
			}
			seen++
			command, rest, err := root.Find(words)
			if err != nil || command == root || command.HasSubCommands() && len(rest) > 0 && regexp.MustCompile(`^[a-z]`).MatchString(rest[0]) {
				t.Errorf("%s: there is no command caddy messenger %s: %v", path, strings.Join(words, " "), err)
				continue
			}
			for _, word := range rest {
				name, isFlag := strings.CutPrefix(word, "--")
				name, _, _ = strings.Cut(strings.TrimRight(name, ".,:"), "=")
				if isFlag && command.Flags().Lookup(name) == nil && command.InheritedFlags().Lookup(name) == nil && name != "help" {
					t.Errorf("%s: caddy messenger %s does not have the flag --%s", path, strings.Join(words, " "), name)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d commands were found", seen)
	}
}
