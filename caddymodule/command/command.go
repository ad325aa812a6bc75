// Package command is "caddy messenger", the commands for operators. They send requests to the admin API of a running gateway, or
// with --offline to the same code in their own process, and print the answer as text or JSON. generate, sign and jwks need
// neither.
//
// It does not know how an operation works; package admin does.
//
// Begin reading with the list of commands in command.go, and continue with client.command, which makes every command that asks a
// gateway.
package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/buildinfo"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "messenger",
		Short: "Administers messengers and their keys, and explains tokens",
		Long: `
These commands explain why a token is accepted or refused, administer the
messengers, shared tokens and open connections of a gateway, and make keys and
tokens. None of them takes a token or a secret as an argument, where other users
of the machine could read it: they come from files, from the environment, or
from standard input.

The exit status is 0 for success, 2 if explain refuses the token, 3 if the
messenger or shared token does not exist, 4 if the current state does not allow
the change, and 1 for any other failure. An error is one line on standard error.
`,
		CobraFunc: addCommands,
	})
}

// addCommands makes cmd the command "caddy messenger", with all its subcommands.
func addCommands(cmd *cobra.Command) {
	group(cmd,
		explainCommand(), keysCommand(), refreshCommand(), readinessCommand(), connectionsCommand(),
		listCommand(), showCommand(), createCommand(), deleteCommand(), tokensCommand(), revocationsCommand(), resealCommand(), repairCommand(), exportCommand(), importCommand(),
		generateCommand(), signCommand(), jwksCommand(), versionCommand())
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetUsageTemplate(strings.NewReplacer(".FlagUsages", ".FlagUsagesWrapped 80", " for more information about a command", "").Replace(cmd.UsageTemplate()))
	refuseEmpty(cmd)
	guardOutput(cmd)
}

// group makes cmd a command that has only subcommands. Without it a misspelled one would print help and succeed.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			return fmt.Errorf("there is no such command; did you mean %s?", strings.Join(similar, " or "))
		}
		return errors.New("there is no such command; see --help")
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subcommands...)
	return cmd
}

// flagError says what is wrong with a flag. It repeats a text only if it looks like a misspelled flag: a generated secret may begin
// with "-", and a value may be a secret.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() { // a flag is also unknown if its command is misspelled
		if wrong := cmd.Args(cmd, cmd.Flags().Args()); wrong != nil {
			return wrong
		}
	}
	if misspelled := regexp.MustCompile(`^unknown flag: --[a-z]+(-[a-z]+)*$`); len(err.Error()) < 40 && misspelled.MatchString(err.Error()) {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if nearest := config.Nearest(strings.TrimPrefix(err.Error(), "unknown flag: --"), known); nearest != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, nearest)
		}
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	return fmt.Errorf("a flag is unknown, or its value is missing or invalid; see %s --help", cmd.CommandPath())
}

// noArguments refuses arguments with an error that does not repeat them, as cobra would: they may be a token or a secret, and
// error texts end up in the logs of scripts.
func noArguments(complaint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errors.New(complaint)
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	var c client
	return c.jsonFlag(&cobra.Command{
		Use:   "version",
		Short: "Prints the versions of this module, Go, Caddy and jwx",
		Long: `
Prints the versions of this module, Go, Caddy and jwx in this program. The
version is (devel) if the module was built from a folder; its commit is shown if
Go has recorded it.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: func(cmd *cobra.Command, _ []string) error { return show(&c, cmd, buildinfo.Read(), versionText) },
	})
}

func versionText(info buildinfo.Info) string {
	return table(func(w io.Writer) {
		fmt.Fprintf(w, "version\t%s\ncommit\t%s\ngo\t%s\ncaddy\t%s\njwx\t%s\n", info.Version, cmp.Or(info.Commit, "-"), info.Go, info.Caddy, info.JWX)
	})
}
