package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

func revocationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revocations",
		Short: "Revokes tokens of contacts, takes that back, and lists it",
		Long: `
A revoked token is refused from the next request on, on other nodes within
poll_interval, and connections that were opened with it are closed. A revocation
is kept until no token could still be good: as long as max_lifetime says, and
without that for ever.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		revocationCommand("add", http.MethodPost, "Revokes a token, those of a contact, or all of a messenger", "revoked"),
		revocationCommand("remove", http.MethodDelete, "Takes a revocation back", "not revoked any more"),
		listRevocationsCommand(),
	)
	return cmd
}

func revocationCommand(name, method, short, done string) *cobra.Command {
	var o administrator
	var v registry.Revocation
	var before, hash string
	cmd := &cobra.Command{
		Use:   name + " <messenger> (--jti <id> | --jti-sha256 <hash> | --identity <id> | --all) [--issued-before <time>] [--offline] [--config <file>] [--address <address>]",
		Short: short,
		Long: `
--jti names one token by its claim "jti", --jti-sha256 by the SHA-256 of that, as
list shows it for tokens whose contacts have logged out. --identity means all tokens of one
contact, and --all those of the whole messenger, that were issued (iat) before
--issued-before; tokens without iat are among them.`,
		Args: oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, messenger string) error {
			if hash != "" {
				if err := v.TokenHash.UnmarshalText([]byte(hash)); err != nil {
					return fmt.Errorf("--jti-sha256 %w", err)
				}
			}
			if err := v.Check(); err != nil {
				return errors.New("exactly one of --jti, --jti-sha256, --identity and --all says what is meant")
			}
			if before != "" {
				at, err := time.Parse(time.RFC3339, before)
				if err != nil {
					return errors.New("--issued-before is not a time such as 2026-11-25T08:00:00Z")
				}
				v.Before = &at
			}
			var ended admin.EndedHere
			if err := o.do(method, "messengers/"+messenger+"/revocations", "", v, &ended); err != nil {
				return err
			}
			text := fmt.Sprintf("messenger %s: %s\n", messenger, done)
			if method == http.MethodPost {
				text += o.endedText(ended.Ended) + "\n"
			}
			_, err := io.WriteString(cmd.OutOrStdout(), text)
			return err
		}),
	}
	o.flags(cmd)
	cmd.Flags().StringVar((*string)(&v.TokenID), "jti", "", "The jti of one token; an integer as its digits")
	cmd.Flags().StringVar(&hash, "jti-sha256", "", "The SHA-256 of the jti of one token, in hexadecimal")
	cmd.Flags().StringVar(&v.Identity, "identity", "", "The contact identity")
	cmd.Flags().BoolVar(&v.All, "all", false, "All contacts of the messenger")
	if method == http.MethodPost {
		cmd.Flags().StringVar(&before, "issued-before", "", "The time of issue before which tokens are revoked (default now)")
	}
	return cmd
}

func listRevocationsCommand() *cobra.Command {
	var o administrator
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list <messenger> [--offline] [--config <file>] [--address <address>] [--json]",
		Short: "Lists what was revoked",
		Args:  oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			var list revocationList
			if err := o.do(http.MethodGet, "messengers/"+name+"/revocations", "", nil, &list); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &list, revocationsText)
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

type revocationList []registry.Revocation

func revocationsText(l *revocationList) string {
	if len(*l) == 0 {
		return "nothing is revoked\n"
	}
	return table(func(w io.Writer) {
		fmt.Fprintln(w, "WHAT\tVALUE\tISSUED BEFORE\tREVOKED\tKEPT UNTIL")
		for _, v := range *l {
			until := "for ever"
			if v.Until != nil {
				until = date(v.Until)
			}
			printable.Printf(w, "%s\t%s\t%s\t%s\t%s\n", v.Target(), strconv.Quote(v.Value()), date(v.Before), date(&v.Created), until)
		}
	})
}
