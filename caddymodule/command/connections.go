package command

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

func connectionsCommand() *cobra.Command {
	cmd := printing(new(client), &cobra.Command{
		Use:   "connections",
		Short: "Shows, and ends, open WebSockets and event streams",
		Long: `
Shows how many WebSockets and event streams of verified contacts are open, by
messenger, since when the oldest of them is open, and when the next of them ends
because its token expires or it reaches max_session.`,
	}, noMessenger, "connections", connectionsText)
	cmd.AddCommand(endConnectionsCommand())
	return cmd
}

func endConnectionsCommand() *cobra.Command {
	var c client
	var wanted admin.EndRequest
	var before string
	cmd := c.jsonFlag(c.command(&cobra.Command{
		Use:   "end <messenger>",
		Short: "Ends open connections of a messenger",
		Long: `
Ends the open WebSockets and event streams of a messenger, or only those that
match all the flags that are given. Clients get the code token_revoked (close
code 4403). A contact whose token is still valid can connect again.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) (err error) {
		wanted.Messenger = name
		if before != "" {
			at, err := time.Parse(time.RFC3339, before)
			if err != nil {
				return errors.New("--issued-before takes a time such as 2026-05-01T12:00:00Z")
			}
			if at.IsZero() {
				return errors.New("--issued-before is the year 1, before which no token was issued; leave it out to end the connections of all contacts")
			}
			wanted.IssuedBefore = &at
		}
		var ended admin.EndedConnections
		if err := c.do(http.MethodPost, "connections/end", "", wanted, &ended); err != nil {
			return err
		}
		return show(&c, cmd, ended, func(e admin.EndedConnections) string { return fmt.Sprintf("%d ended\n", e.Ended) })
	}))
	flags := cmd.Flags()
	flags.StringVar(&wanted.Identity, "identity", "", "Only those of the contact with this `identity`")
	flags.StringVar(&before, "issued-before", "", "Only those whose token was issued before this `time`, or has no time of issue")
	flags.StringVar((*string)(&wanted.TokenID), "token-id", "", "Only those whose token has this `jti`")
	flags.StringVar(&wanted.Key, "key", "", "Only those whose token was signed with the public key that has this `SHA-256`")
	return cmd
}
