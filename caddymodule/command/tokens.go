package command

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

func tokensCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "tokens",
		Short: "Generates, rotates, resets, revokes and lists shared tokens",
		Long: `
A shared token that the gateway generates is kept in Caddy's storage. Its text
is printed once, when it is generated, alone on standard output, so that it can
be piped into the site's secret store. It cannot be read again.`,
	}, newTokenCommand("generate", "Generates another shared token; the others stay valid", `
Generates a shared token. Those that the messenger has stay valid; it can have
at most 10.`),
		rotateCommand(),
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
	cmd := c.canBeOffline(c.command(&cobra.Command{Use: action + " <messenger>", Short: short, Long: long}, thisMessenger, func(cmd *cobra.Command, name string) error {
		body := map[string]bool{}
		if closing {
			body["close_connections"] = true
		}
		return c.makeToken(cmd, name, action, body)
	}))
	if action == "reset" {
		closingFlag(cmd, &closing)
	}
	return cmd
}

func closingFlag(cmd *cobra.Command, closing *bool) {
	cmd.Flags().BoolVar(closing, "close-connections", false, "Also end the connections that were opened with the revoked tokens")
}

func rotateCommand() *cobra.Command {
	var c client
	var overlap string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "rotate <messenger>",
		Short: "Generates a shared token and lets the others expire later",
		Long: `
Generates a shared token. The others stay valid for the overlap, in which the
site begins to sign with the new one; open connections stay. With --overlap 0
the others are revoked at once.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		duration, err := caddy.ParseDuration(overlap)
		if err != nil {
			return errors.New("--overlap is not a duration such as 24h or 7d")
		}
		return c.makeToken(cmd, name, "rotate", map[string]caddy.Duration{"overlap": caddy.Duration(duration)})
	}))
	cmd.Flags().StringVar(&overlap, "overlap", config.DurationText(ledger.DefaultOverlap), "The `duration` for which the other tokens stay valid")
	return cmd
}

// makeToken prints the new token alone on standard output, and everything about it on standard error.
func (c *client) makeToken(cmd *cobra.Command, name, action string, body any) error {
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

// endedText says which connections a change has ended.
func (c *client) endedText(here int) string {
	if c.offline {
		return "connections end on each running gateway within its poll_interval"
	}
	return fmt.Sprintf("connections ended on this gateway: %d; other gateways on its storage end theirs within their poll_interval", here)
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
			return errors.New("--kid is missing: it names the shared token; \"tokens list\" shows them")
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
	cmd.Flags().StringVar(&kid, "kid", "", "The `kid` of the shared token")
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
