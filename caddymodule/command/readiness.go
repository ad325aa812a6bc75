package command

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

func readinessCommand() *cobra.Command {
	var gateway remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "readiness [<messenger>] [--address <address>] [--config <file>] [--json]",
		Short: "Shows what the mode \"required\" would do to the requests of a messenger",
		Long: `
Shows how many requests of the last hour and of the last day carried a good
token, none, or a bad one, and why, and what share of them would pass under the
mode "required". The gateway counts in every mode but "off"; with "report"
nothing is refused meanwhile. The figures are those of one node.`,
		Args: oneMessenger,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := gateway.name(args)
			if err != nil {
				return err
			}
			var met metrics.Readiness
			err = gateway.call(http.MethodGet, messengerPath(name, "readiness"), nil, &met)
			if err != nil {
				return endWith(cmd, args, err)
			}
			return show(cmd.OutOrStdout(), asJSON, &met, readinessText)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func readinessText(r *metrics.Readiness) string {
	var b strings.Builder
	printable.Printf(&b, "messenger %s, mode %s, counted on this node since %s\n", r.Messenger, r.Mode, r.Since.Format(time.RFC3339))
	for _, w := range r.Windows {
		printable.Printf(&b, "\n  last %-3s  %s\n", w.Window, w.Summary())
		for _, code := range w.CodesByCount() {
			printable.Printf(&b, "    %10d  %s\n", w.Codes[code], code)
		}
	}
	return b.String()
}
