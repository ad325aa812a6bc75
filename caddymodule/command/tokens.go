package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

func tokensCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "tokens",
		Short: "Makes, replaces, revokes and lists shared tokens",
		Long: `
A shared token that the gateway generates is kept in Caddy's storage. Its text
is printed once, when it is generated, alone on standard output, so that it can
be piped into the site's secret store. It cannot be read again.`,
	}, newTokenCommand("generate", "Generates another shared token; the others stay valid", `
Generates a shared token. Those that the messenger has stay valid; it can have
at most 10.`),
		importTokenCommand(),
		rotateCommand(),
		extendCommand(),
		newTokenCommand("reset", "Generates a shared token and revokes all others at once", `
Generates a shared token, and revokes all others at once: for a token that has
leaked. JWTs that were signed with them are refused from the next request on.
Open connections stay, unless --close-connections is given.`),
		revokeCommand(),
		listTokensCommand())
}

func newTokenCommand(action, short, long string) *cobra.Command {
	var c client
	var closing bool
	var label string
	cmd := c.canBeOffline(c.command(&cobra.Command{Use: action + " <messenger>", Short: short, Long: long}, thisMessenger, func(cmd *cobra.Command, name string) error {
		body := map[string]any{}
		if closing {
			body["close_connections"] = true
		}
		return c.makeToken(cmd, name, action, labelled(body, label))
	}))
	labelFlag(cmd, &label)
	if action == "reset" {
		closingFlag(cmd, &closing)
	}
	return cmd
}

// labelFlag is the flag of the commands that make a token.
func labelFlag(cmd *cobra.Command, label *string) {
	cmd.Flags().StringVar(label, "label", "", fmt.Sprintf("What the token is for, such as \"web shop\": at most %d `bytes`, shown by \"tokens list\" and \"keys\"", ledger.MaxLabel))
}

// labelled adds the label to the body of a request unless it is "", because older gateways refuse the unknown member.
func labelled(body map[string]any, label string) map[string]any {
	if label != "" {
		body["label"] = label
	}
	return body
}

func closingFlag(cmd *cobra.Command, closing *bool) {
	cmd.Flags().BoolVar(closing, "close-connections", false, "Also end the connections that were opened with the revoked tokens")
}

// kidFlag is the flag of the commands that change one token, and errNoKid their error without it.
func kidFlag(cmd *cobra.Command, kid *string) {
	cmd.Flags().StringVar(kid, "kid", "", "The `kid` of the shared token")
}

var errNoKid = errors.New("--kid is missing: it names the shared token; \"tokens list\" shows them")

// overlapFlag is the flag of a duration for which something is so.
func overlapFlag(cmd *cobra.Command, overlap *string, what string) {
	cmd.Flags().StringVar(overlap, "overlap", config.DurationText(ledger.DefaultOverlap), "The `duration` for which "+what)
}

func parseOverlap(text string) (caddy.Duration, error) {
	duration, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, errors.New("--overlap is not a duration such as 24h or 7d")
	}
	return caddy.Duration(duration), nil
}

func rotateCommand() *cobra.Command {
	var c client
	var overlap, label string
	var confirm int
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "rotate <messenger>",
		Short: "Generates a shared token and lets the others expire later",
		Long: `
Generates a shared token. The others stay valid for the overlap, in which the
site begins to sign with the new one; open connections stay. A token that
expires anyway keeps its time. With --overlap 0 the others are revoked at once:
the command says how many these are, and does it with --confirm and that number.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		duration, err := parseOverlap(overlap)
		if err != nil {
			return err
		}
		body := map[string]any{"overlap": duration}
		if confirm != 0 {
			body["confirm"] = confirm
		}
		return withFlag(c.makeToken(cmd, name, "rotate", labelled(body, label)), "--confirm, --overlap")
	}))
	labelFlag(cmd, &label)
	cmd.Flags().IntVar(&confirm, "confirm", 0, "With --overlap 0: the `number` of shared tokens that are revoked")
	overlapFlag(cmd, &overlap, "the other tokens stay valid")
	return cmd
}

func importTokenCommand() *cobra.Command {
	var c client
	var encoding, kid, label string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "import <messenger>",
		Short: "Imports a secret with which the site signs already",
		Long: `
Reads a secret from standard input, and adds it to the shared tokens of the
messenger, so that a site can move in without signing new tokens. It is never
shown again, and is rotated, reset and revoked like a generated one. It has at
least 32 bytes. A line break at its end is left out.

An imported secret that was revoked at the messenger is not accepted again.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		secret, err := readSecret(cmd.InOrStdin())
		if err != nil {
			return err
		}
		var made ledger.NewToken
		body := map[string]any{"secret": secret, "encoding": encoding, "kid": kid}
		if err := c.do(http.MethodPost, "messengers/"+name+"/tokens/import", "", labelled(body, label), &made); err != nil {
			return err
		}
		return printable.Printf(cmd.OutOrStdout(), "the secret is shared token %s of messenger %s\n", made.KeyID, name)
	}))
	labelFlag(cmd, &label)
	cmd.Flags().StringVar(&encoding, "encoding", string(sharedtoken.Raw), "How the text encodes the `bytes` of the secret: raw, base64, base64url or hex")
	cmd.Flags().StringVar(&kid, "kid", "", "The `kid` of the JWTs that the site signs with it (default: any, or none)")
	return cmd
}

// readSecret reads a secret of one line. It comes from standard input only: arguments are visible to other users of the machine, and
// stay in the history of the shell.
func readSecret(in io.Reader) (string, error) {
	const longest = 8 << 10
	text, err := io.ReadAll(io.LimitReader(in, longest+1))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case secret == "":
		return "", errors.New("standard input is empty; pipe the secret into the command")
	case len(text) > longest:
		return "", fmt.Errorf("standard input has more than %d KiB, and is not a secret", longest>>10)
	case !utf8.ValidString(secret):
		return "", errors.New("the secret is not text; encode it, and say how: --encoding base64")
	}
	return secret, nil
}

func extendCommand() *cobra.Command {
	var c client
	var kid, overlap string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "extend <messenger> --kid <kid>",
		Short: "Lets a shared token that is about to expire be valid for longer",
		Long: `
Lets a shared token that expires after a rotation be valid for that time from
now on, for a site that has not changed to the new one yet. It never shortens
the time of a token, and brings none back that has expired or was revoked.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		duration, err := parseOverlap(overlap)
		if err != nil {
			return err
		}
		if kid == "" {
			return errNoKid
		}
		if err := c.do(http.MethodPost, "messengers/"+name+"/tokens/extend", "", map[string]any{"kid": kid, "overlap": duration}, &struct{}{}); err != nil {
			return err
		}
		return printable.Printf(cmd.OutOrStdout(), "shared token %s of messenger %s is valid for another %s\n", kid, name, overlap)
	}))
	kidFlag(cmd, &kid)
	overlapFlag(cmd, &overlap, "the token stays valid from now on")
	return cmd
}

// makeToken prints the new token alone on standard output, and everything about it on standard error.
func (c *client) makeToken(cmd *cobra.Command, name, action string, body any) error {
	if isNowhere(os.Stdout) {
		return errors.New("standard output is closed, or is /dev/null, and the token is shown only once; nothing was changed")
	}
	var made ledger.NewToken
	if err := c.do(http.MethodPost, "messengers/"+name+"/tokens/"+action, "", body, &made); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), made.Token); err != nil {
		return fmt.Errorf("the token %s was generated and could not be printed; revoke it: %w", made.KeyID, err)
	}
	about := cmd.ErrOrStderr()
	printable.Printf(about, "shared token %s of messenger %s; it is shown only this once\n", made.KeyID, name)
	if made.Ended != nil {
		printable.Printf(about, "%s\n", c.endedText(*made.Ended))
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		fmt.Fprintln(about, "After you have stored it, clear the clipboard and the scroll-back of this terminal.")
	}
	return nil
}

// isNowhere reports whether what is written to a file is lost. Go opens the null device in the place of a closed standard output.
func isNowhere(file *os.File) bool {
	is, err := file.Stat()
	null, errNull := os.Stat(os.DevNull)
	return err == nil && errNull == nil && os.SameFile(is, null)
}

// endedText says how many connections a change has ended on this gateway, and when other gateways end theirs.
func (c *client) endedText(here int) string {
	if c.offline {
		return "connections end on each running gateway within its poll_interval and a second"
	}
	return fmt.Sprintf("connections ended on this gateway: %d; other gateways on its storage end theirs within their poll_interval and a second", here)
}

func revokeCommand() *cobra.Command {
	var c client
	var kid string
	var closing bool
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "revoke <messenger> --kid <kid>",
		Short: "Revokes a shared token at once",
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		if kid == "" {
			return errNoKid
		}
		var ended admin.EndedHere
		if err := c.do(http.MethodPost, "messengers/"+name+"/tokens/revoke", "", map[string]any{"kid": kid, "close_connections": closing}, &ended); err != nil {
			return err
		}
		if err := printable.Printf(cmd.OutOrStdout(), "shared token %s of messenger %s is revoked\n", kid, name); err != nil || !closing {
			return err
		}
		return printable.Printf(cmd.OutOrStdout(), "%s\n", c.endedText(ended.Ended))
	}))
	kidFlag(cmd, &kid)
	closingFlag(cmd, &closing)
	return cmd
}

func listTokensCommand() *cobra.Command {
	var c client
	return c.canBeOffline(printing(&c, &cobra.Command{
		Use:   "list <messenger>",
		Short: "Lists the shared tokens of a messenger, without their text",
	}, thisMessenger, "messengers/%s/tokens", tokensText))
}
