package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

func tokensCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tokens",
		Short: "Generates, rotates, resets, revokes and lists the shared tokens of a messenger",
		Long: `
A shared token that the gateway generates is kept in Caddy's storage. Its text is
printed once, when it is made, alone on standard output, so that it can be piped
into the site's secret store; afterwards it is nowhere to be had.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTokenCommand("generate", "Makes another shared token; those that are there stay good", `
Makes a shared token. Those that the messenger has stay as they are; at most 10
can be good at a time.`),
		rotateCommand(),
		newTokenCommand("reset", "Makes a new shared token and ends all others at once", `
Makes a new shared token, and ends all others at once: for a token that was
seen by somebody who should not have. Tokens that were signed with them are
refused from the next request on. Open connections stay, unless
--close-connections ends those that were opened with them.`),
		revokeCommand(),
		listTokensCommand(),
	)
	return cmd
}

func newTokenCommand(action, short, long string) *cobra.Command {
	var o administrator
	var closing bool
	cmd := &cobra.Command{
		Use:   action + " <messenger> [--offline] [--config <file>] [--address <address>]",
		Short: short,
		Long:  long,
		Args:  oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			body := map[string]bool{}
			if closing {
				body["close_connections"] = true
			}
			return o.makeToken(cmd, name, action, body)
		}),
	}
	o.flags(cmd)
	if action == "reset" {
		closingFlag(cmd, &closing)
	}
	return cmd
}

func closingFlag(cmd *cobra.Command, closing *bool) {
	cmd.Flags().BoolVar(closing, "close-connections", false, "Also end the connections that were opened with what is not good any more")
}

func rotateCommand() *cobra.Command {
	var o administrator
	var overlap string
	cmd := &cobra.Command{
		Use:   "rotate <messenger> [--overlap <duration>] [--offline] [--config <file>] [--address <address>]",
		Short: "Makes a new shared token and lets the others end after an overlap",
		Long: `
Makes a new shared token. The others stay good for the overlap, in which the site
begins to sign with the new one; no chat is interrupted. With --overlap 0 they
end at once.`,
		Args: oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			duration, err := caddy.ParseDuration(overlap)
			if err != nil {
				return errors.New("--overlap is not a duration such as 24h or 7d")
			}
			return o.makeToken(cmd, name, "rotate", map[string]caddy.Duration{"overlap": caddy.Duration(duration)})
		}),
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&overlap, "overlap", registry.DefaultOverlap.String(), "How long the other tokens stay good")
	return cmd
}

// makeToken prints the new token alone on standard output, and all that is said about it elsewhere.
func (o *administrator) makeToken(cmd *cobra.Command, name, action string, body any) error {
	var made registry.NewToken
	if err := o.do(http.MethodPost, "messengers/"+name+"/tokens/"+action, "", body, &made); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), made.Token); err != nil {
		return fmt.Errorf("the token %s was made and could not be printed; revoke it: %w", made.KeyID, err)
	}
	about := cmd.ErrOrStderr()
	printable.Printf(about, "shared token %s of messenger %s; it is shown this once\n", made.KeyID, name)
	if made.Ended != nil {
		printable.Printf(about, "%s\n", o.endedText(*made.Ended))
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		fmt.Fprintln(about, "When you have put it where it belongs, clear the clipboard, and the scroll-back of this terminal.")
	}
	return nil
}

// endedText says which connections a change has ended.
func (o *administrator) endedText(here int) string {
	if o.app != nil {
		return "connections end on each running gateway within its poll_interval"
	}
	return fmt.Sprintf("connections ended on this gateway: %d; others that share its storage end theirs within their poll_interval", here)
}

func revokeCommand() *cobra.Command {
	var o administrator
	var kid string
	var closing bool
	cmd := &cobra.Command{
		Use:   "revoke <messenger> --kid <kid> [--offline] [--config <file>] [--address <address>]",
		Short: "Ends one shared token at once",
		Args:  oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			if kid == "" {
				return errors.New("--kid is missing: which of the tokens; \"tokens list\" shows them")
			}
			var ended admin.EndedHere
			if err := o.do(http.MethodPost, "messengers/"+name+"/tokens/revoke", "", map[string]any{"kid": kid, "close_connections": closing}, &ended); err != nil {
				return err
			}
			if err := printable.Printf(cmd.OutOrStdout(), "shared token %s of messenger %s is revoked\n", kid, name); err != nil || !closing {
				return err
			}
			return printable.Printf(cmd.OutOrStdout(), "%s\n", o.endedText(ended.Ended))
		}),
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&kid, "kid", "", "The kid of the token")
	closingFlag(cmd, &closing)
	return cmd
}

func listTokensCommand() *cobra.Command {
	var o administrator
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list <messenger> [--offline] [--config <file>] [--address <address>] [--json]",
		Short: "Lists the shared tokens of a messenger, without their text",
		Args:  oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			var ring admin.TokenList
			if err := o.do(http.MethodGet, "messengers/"+name+"/tokens", "", nil, &ring); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &ring, tokensText)
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func tokensText(r *admin.TokenList) string {
	if len(r.Tokens) == 0 {
		return "messenger " + r.Messenger + " has no shared token yet; make one: caddy messenger tokens generate " + r.Messenger + "\n"
	}
	return table(func(w io.Writer) {
		fmt.Fprintln(w, "KID\tFINGERPRINT\tSTATE\tCREATED\tEND\tLAST USED")
		for _, t := range r.Tokens {
			printable.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.KeyID, t.Fingerprint, t.State, date(&t.Created), date(t.End), hourOf(t.LastUsed))
		}
	})
}

func hourOf(t *time.Time) string {
	if t == nil {
		return "not yet"
	}
	return t.UTC().Format("2006-01-02 15h MST")
}
