package command

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// refused runs a command that has to end with an error before it asks a gateway.
func refused(t *testing.T, cmd *cobra.Command, input, want string, args ...string) {
	t.Helper()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(input))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s %q: got %v, want %q", cmd.Name(), args, err, want)
	}
}

// A flag next to --settings was ignored: the restriction that it names was not there.
func TestNoSettingIsNextToSettings(t *testing.T) {
	const settings = `{"identity_key":"sub","shared_token":{}}`
	for _, flag := range []string{
		"--audience=x", "--max-lifetime=1h", "--require-claims=exp", "--identity-key=sub", "--shared-token", "--shared-token=false", "--public-key=nosuch.pem", "--kid=a", "--alg=RS256",
		"--jwks-header=X-Key: a", "--jwks-ca=nosuch.pem", "--mode=required", "--fail-limit=5/1m", "--max-session=1h",
	} {
		name, _, _ := strings.Cut(flag, "=")
		for _, how := range []string{"--replace", "--replace=false"} {
			refused(t, createCommand(), settings, name+" is", "acme", "--settings", "-", flag, how)
		}
	}
}
