package command

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// guardOutput makes everything that cmd and its subcommands print go through a Writer, and their errors through
// Error: Caddy's root command prints these, and past the writer.
func guardOutput(cmd *cobra.Command) {
	cmd.SetOut(printable.Writer{Writer: os.Stdout})
	cmd.SetErr(printable.Writer{Writer: os.Stderr})
	guardErrors(cmd)
}

func guardErrors(cmd *cobra.Command) {
	run, check := cmd.RunE, cmd.Args
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return printable.Error(run(cmd, args)) }
	if check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return printable.Error(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		guardErrors(sub)
	}
}
