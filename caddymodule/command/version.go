package command

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/buildinfo"
)

func versionCommand() *cobra.Command {
	var c client
	return c.jsonFlag(&cobra.Command{
		Use:   "version",
		Short: "Prints the versions of this module, Go, Caddy and jwx",
		Long: `
Prints of which versions this program was built. The version is (devel) if the
module was built from a folder; its commit is shown where Go has recorded it.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: func(cmd *cobra.Command, _ []string) error { return show(&c, cmd, buildinfo.Read(), versionText) },
	})
}

func versionText(info buildinfo.Info) string {
	return table(func(w io.Writer) {
		fmt.Fprintf(w, "version\t%s\ncommit\t%s\ngo\t%s\ncaddy\t%s\njwx\t%s\n", info.Version, cmp.Or(info.Commit, "-"), info.Go, info.Caddy, info.JWX)
	})
}
