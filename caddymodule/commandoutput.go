package caddymodule

import (
	"os"

	"github.com/spf13/cobra"
)

// guardOutput makes everything that cmd and its subcommands print go through a printableWriter, and their errors through
// printableError: Caddy's root command prints these, and past the writer.
func guardOutput(cmd *cobra.Command) {
	cmd.SetOut(printableWriter{os.Stdout})
	cmd.SetErr(printableWriter{os.Stderr})
	guardErrors(cmd)
}

func guardErrors(cmd *cobra.Command) {
	run, check := cmd.RunE, cmd.Args
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return printableError(run(cmd, args)) }
	if check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return printableError(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		guardErrors(sub)
	}
}
