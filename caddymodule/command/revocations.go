package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

func revocationsCommand() *cobra.Command {
	var c client
	return group(&cobra.Command{
		Use:   "revocations",
		Short: "Revokes tokens of contacts, undoes revocations, and lists them",
		Long: `
A revoked token is refused from the next request on, on other nodes within
poll_interval, and connections that were opened with it are closed. A revocation
is kept until no token that it covers could still be valid: as long as
max_lifetime says, and forever without max_lifetime.`,
	}, revocationCommand("add", http.MethodPost, "Revokes a token, those of a contact, or all of a messenger", "revoked"),
		revocationCommand("remove", http.MethodDelete, "Undoes a revocation", "no longer revoked"),
		importRevocationsCommand(),
		c.canBeOffline(printing(&c, &cobra.Command{
			Use:   "list <messenger>",
			Short: "Lists the revocations of a messenger",
		}, thisMessenger, "messengers/%s/revocations", revocationsText)))
}

func revocationCommand(name, method, short, done string) *cobra.Command {
	var c client
	var v revocation.Revocation
	var before, hash string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   name + " <messenger>",
		Short: short,
		Long: `
Give exactly one of --jti, --jti-sha256, --identity and --all.

--jti names one token by its claim "jti", and --jti-sha256 by the SHA-256 of it,
as list shows it for tokens whose contacts have logged out. --identity covers
all tokens of one contact, and --all those of the whole messenger, that were
issued (iat) before --issued-before; tokens without iat are covered too.
Write an identity as it is in the token: the backend's header has %C3%AB for ë.`,
	}, thisMessenger, func(cmd *cobra.Command, messenger string) error {
		if hash != "" {
			if err := v.TokenHash.UnmarshalText([]byte(hash)); err != nil {
				return fmt.Errorf("--jti-sha256 %w", err)
			}
		}
		if v.Targets() != 1 {
			return errors.New("give exactly one of --jti, --jti-sha256, --identity and --all")
		}
		if before != "" {
			at, err := time.Parse(time.RFC3339, before)
			if err != nil {
				return errors.New("--issued-before is not a time such as 2026-11-25T08:00:00Z")
			}
			v.Before = &at
		}
		check := v.CheckNew
		if method == http.MethodDelete { // what is there can be removed, whatever it is
			check = v.Check
		}
		if err := check(); err != nil {
			return err
		}
		var ended admin.EndedHere
		if err := c.do(method, "messengers/"+messenger+"/revocations", "", v, &ended); err != nil {
			return err
		}
		text := fmt.Sprintf("messenger %s: %s\n", messenger, done)
		if method == http.MethodPost {
			text += c.endedText(ended.Ended) + "\n"
			if ended.Warning != "" {
				text += "warning: " + ended.Warning + "\n"
			}
		}
		_, err := io.WriteString(cmd.OutOrStdout(), text)
		return err
	}))
	flags := cmd.Flags()
	flags.StringVar((*string)(&v.TokenID), "jti", "", "The `jti` of one token; an integer as its digits")
	flags.StringVar(&hash, "jti-sha256", "", "The SHA-256 of the jti of one token, in `hexadecimal`")
	flags.StringVar(&v.Identity, "identity", "", "The contact `identity`")
	flags.BoolVar(&v.All, "all", false, "All contacts of the messenger")
	if method == http.MethodPost {
		flags.StringVar(&before, "issued-before", "", "The `time` of issue before which tokens are revoked (default now)")
	}
	return cmd
}
