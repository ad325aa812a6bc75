package command

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// all returns "caddy messenger" with all its commands, as a process has it.
func all() *cobra.Command {
	cmd := &cobra.Command{Use: "messenger", SilenceErrors: true, SilenceUsage: true}
	addCommands(cmd)
	return cmd
}

// refused runs a command that has to end with an error before it asks a gateway.
func refused(t *testing.T, input, want string, args ...string) {
	t.Helper()
	cmd := all()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(input))
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
		t.Errorf("%q: got %v, want %q; printed %q", args, err, want, out.String())
	}
}

// A flag next to --settings was ignored: the restriction that it names was not there.
func TestSettingsFlagExcludesSettingFlags(t *testing.T) {
	const settings = `{"identity_key":"sub","shared_token":{}}`
	for _, flag := range []string{
		"--audience=x", "--max-lifetime=1h", "--require-claims=exp", "--identity-key=sub", "--shared-token", "--shared-token=false", "--public-key=nosuch.pem", "--kid=a", "--alg=RS256",
		"--jwks-header=X-Key: a", "--jwks-ca=nosuch.pem", "--mode=required", "--fail-limit=5/1m", "--max-session=1h", "--audience=",
	} {
		name, _, _ := strings.Cut(flag, "=")
		for _, how := range []string{"--replace", "--replace=false"} {
			refused(t, settings, "cannot be combined with "+name, "create", "acme", "--settings", "-", flag, how)
		}
	}
}

// everyFlag calls f for each command with each of its flags that has a text.
func everyFlag(cmd *cobra.Command, path []string, f func(path []string, cmd *cobra.Command, flag *pflag.Flag)) {
	for _, sub := range cmd.Commands() {
		everyFlag(sub, append(slices.Clip(path), sub.Name()), f)
	}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if _, list := flag.Value.(pflag.SliceValue); list || flag.Value.Type() == "string" {
			f(path, cmd, flag)
		}
	})
}

// A script whose variable is not set gives an empty value. It revoked, ended, exported or created more than it had asked for.
func TestEmptyFlagIsRefused(t *testing.T) {
	checked := 0
	everyFlag(all(), nil, func(path []string, cmd *cobra.Command, flag *pflag.Flag) {
		args := slices.Clone(path)
		if strings.Contains(cmd.Use, "<messenger>") || strings.Contains(cmd.Use, "<public key file>") {
			args = append(args, "acme")
		}
		_, meant := flag.Annotations[emptyHasMeaning]
		switch {
		case !meant || path[0] == "create" && !strings.Contains(flag.Usage, "an empty one"):
			checked++
			refused(t, "", "--"+flag.Name+" is empty", append(args, "--"+flag.Name, "", "--"+flag.Name+"=")...)
		case !strings.Contains(flag.Usage, "an empty one"):
			t.Errorf("%v: the help of --%s does not say what an empty value means", path, flag.Name)
		}
	})
	if checked < 80 {
		t.Errorf("%d flags are checked", checked)
	}
	for _, args := range [][]string{
		{"revocations", "add", "main", "--identity", "mark", "--issued-before", ""}, {"connections", "end", "main", "--issued-before", "", "--identity", "mark"}, {"generate", "--rsa", ""},
		{"export", "--secrets", ""}, {"export", "-o", ""}, {"create", "a", "--identity-key", "sub", "--shared-token", "--audience", "x", "--audience", ""},
		{"create", "a", "--replace", "--identity-key", "sub", "--shared-token", "--audience", "", "--audience", "x"},
	} {
		refused(t, "", " is empty; ", args...)
	}
}

// With --replace an empty value sets the default, and is the only way to it for what --replace keeps.
func TestEmptySettingResetsToTheDefault(t *testing.T) {
	var sent string
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPut {
			sent = string(body)
		}
		_, _ = io.WriteString(w, `{"name":"acme","revision":"r1","settings":{"identity_key":"sub","shared_token":{},"max_session":3600000000000,"fail_limit":{"attempts":5,"window":60000000000}}}`)
	}))
	defer gateway.Close()
	cmd := all()
	cmd.SetArgs([]string{"create", "acme", "--address", strings.TrimPrefix(gateway.URL, "http://"), "--replace", "--identity-key", "sub", "--shared-token", "--max-session", "", "--audience", "", "--token-type", "", "--jwks-header", ""})
	cmd.SetOut(io.Discard)
	if err := cmd.Execute(); err != nil || sent == "" || strings.Contains(sent, "max_session") || !strings.Contains(sent, "fail_limit") || strings.Contains(sent, "audience") {
		t.Errorf("it sends %s: %v", sent, err)
	}
}

// A file that cannot get its name leaves nothing behind: what is left would stop the next export.
func TestFileThatCannotBeRenamedIsRemoved(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.jsonl")
	for range 2 {
		_, done, err := newFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(name, "taken"), 0o700); err != nil {
			t.Fatal(err)
		}
		if done(nil) == nil {
			t.Error("a folder was overwritten")
		}
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(name)); len(left) > 0 {
			t.Errorf("left is %s", left[0].Name())
		}
	}
}
