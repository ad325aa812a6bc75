package command

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

func keysCommand() *cobra.Command {
	return printing(new(client), &cobra.Command{
		Use:   "keys [<messenger>]",
		Short: "Shows the active keys of a messenger",
		Long: `
Shows which keys verify the messenger's tokens right now and where they come
from. For a key set from a URL it also shows how old the set is, when it is
fetched next, and which of its entries are not used, and why. Secrets are not
shown.`,
	}, anyMessenger, "messengers/%s/keys", keysText)
}

func refreshCommand() *cobra.Command {
	var c client
	var distrust bool
	cmd := c.jsonFlag(c.command(&cobra.Command{
		Use:   "refresh [<messenger>]",
		Short: "Fetches the key set of a messenger now",
		Long: `
Fetches the messenger's key set from its URL now, so that a key that was removed
there is no longer accepted, rather than until the set's lifetime ends. If the
key server cannot be reached, the keys that were fetched before stay active.

With --distrust these keys are dropped first, for a key that was stolen: the
messenger answers keys_unavailable until a new set is fetched.`,
	}, anyMessenger, func(cmd *cobra.Command, name string) error {
		var keys admin.KeysInfo
		if err := c.do(http.MethodPost, "messengers/"+name+"/refresh", "", map[string]bool{"distrust": distrust}, &keys); err != nil {
			return err
		}
		return show(&c, cmd, &keys, keysText)
	}))
	cmd.Flags().BoolVar(&distrust, "distrust", false, "Drop the keys that were fetched before, even if no new ones can be fetched")
	return cmd
}

func readinessCommand() *cobra.Command {
	return printing(new(client), &cobra.Command{
		Use:   "readiness [<messenger>]",
		Short: "Shows what the mode \"required\" would refuse",
		Long: `
Shows how many requests of the last hour and of the last day had a valid token,
no token or an invalid one, and why, and what share of them would pass in the
mode "required". The gateway counts in every mode except "off"; in the mode
"report" nothing is refused while it counts. The numbers are those of one node.`,
	}, anyMessenger, "messengers/%s/readiness", readinessText)
}
