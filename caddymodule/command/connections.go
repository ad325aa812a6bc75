package command

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

func connectionsCommand() *cobra.Command {
	var gateway remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "connections [--address <address>] [--config <file>] [--json]",
		Short: "Shows the open WebSockets and event streams of the running gateway, and ends some of them",
		Long: `
Shows how many WebSockets and event streams of verified contacts are open, by
messenger, since when the oldest of them is, and when the next of them ends
because its token expires or it reaches max_session.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var open admin.OpenConnections
			if err := gateway.call(http.MethodGet, "connections", nil, &open); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &open, connectionsText)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	cmd.AddCommand(endConnectionsCommand())
	return cmd
}

func endConnectionsCommand() *cobra.Command {
	var gateway remote
	var wanted admin.EndRequest
	var before string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "end <messenger> [--identity <id>] [--issued-before <time>] [--token-id <jti>] [--key <sha256>] [--address <address>] [--config <file>] [--json]",
		Short: "Ends open connections of a messenger",
		Long: `
Ends the open WebSockets and event streams of a messenger, or of these only the
ones to which everything applies that is given. Clients are told token_revoked
(close code 4403). A contact whose token is still good can connect again.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("end takes the messenger whose connections are meant, and flags that narrow it down")
			}
			return oneMessenger(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			wanted.Messenger = args[0]
			if before != "" {
				if wanted.IssuedBefore, err = time.Parse(time.RFC3339, before); err != nil {
					return errors.New("--issued-before takes a time such as 2026-05-01T12:00:00Z")
				}
			}
			for _, flag := range []string{"identity", "token-id", "key", "issued-before"} {
				if f := cmd.Flags().Lookup(flag); f.Changed && f.Value.String() == "" {
					return fmt.Errorf("--%s is empty; without it the connections of all contacts are meant", flag)
				}
			}
			var ended admin.EndedConnections
			if err := gateway.call(http.MethodPost, "connections/end", wanted, &ended); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, ended, endedConnectionsText)
		},
	}
	gateway.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&wanted.Identity, "identity", "", "Only those of this contact")
	flags.StringVar(&before, "issued-before", "", "Only those whose token was issued before that time, or does not say when")
	flags.StringVar((*string)(&wanted.TokenID), "token-id", "", "Only those whose token has this jti")
	flags.StringVar(&wanted.Key, "key", "", "Only those whose token was signed by this public key (its SHA-256)")
	flags.BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func connectionsText(d *admin.OpenConnections) string {
	var b strings.Builder
	printable.Printf(&b, "%d open\n", d.Open)
	for _, m := range d.Messengers {
		printable.Printf(&b, "\n  %s  %d open, the oldest since %s", m.Messenger, m.Open, m.Oldest.Format(time.RFC3339))
		if m.NextEnd != nil {
			printable.Printf(&b, ", the next ends by %s", m.NextEnd.Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func endedConnectionsText(e admin.EndedConnections) string { return fmt.Sprintf("%d ended\n", e.Ended) }
