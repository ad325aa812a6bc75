package command

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

func listCommand() *cobra.Command {
	var c client
	return c.canBeOffline(c.jsonFlag(c.command(&cobra.Command{
		Use:   "list",
		Short: "Lists the messengers, configured and stored",
	}, noMessenger, func(cmd *cobra.Command, _ string) error {
		all := messengerList{}
		for after := ""; ; {
			var page messengerList
			if err := c.do(http.MethodGet, "messengers?after="+url.QueryEscape(after), "", nil, &page); err != nil {
				return err
			}
			all = append(all, page...)
			// The last page is empty, or has no stored messenger. Names ascend, or this would not end.
			if len(page) == 0 || page[len(page)-1].Source != registry.SourceStored || page[len(page)-1].Name <= after {
				return show(&c, cmd, &all, messengersText)
			}
			after = page[len(page)-1].Name
		}
	})))
}

func showCommand() *cobra.Command {
	var c client
	return c.canBeOffline(printing(&c, &cobra.Command{
		Use:   "show <messenger>",
		Short: "Shows the settings of a messenger",
	}, thisMessenger, "messengers/%s", messengerText))
}

func deleteCommand() *cobra.Command {
	var c client
	return c.canBeOffline(c.command(&cobra.Command{
		Use:   "delete <messenger>",
		Short: "Deletes a stored messenger with its shared tokens",
		Long: `
Deletes a stored messenger and its shared tokens. A messenger that is created
later under the same name inherits nothing from it. To remove a messenger of the
configuration, edit the configuration.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		if err := c.do(http.MethodDelete, "messengers/"+name, "", nil, &struct{}{}); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "messenger %s is deleted\n", name)
		return err
	}))
}

func resealCommand() *cobra.Command {
	var c client
	var adopt bool
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "reseal",
		Short: "Seals everything in the store with the first store key",
		Long: `
Reads all values of the store with any of the configured keys and writes them
again with the first one. To change keys, put the new one first, reload all
nodes, reseal, and remove the old one.

With --adopt-unsealed values that are not sealed are accepted too, such as those
from before the first key was configured. Anyone who could write to the storage
may have put something there: check it with list and show before you configure
the key.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error {
		var answer map[string]int
		if err := c.do(http.MethodPost, "reseal", "", map[string]bool{"adopt_unsealed": adopt}, &answer); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d values resealed\n", answer["resealed"])
		return err
	}))
	cmd.Flags().BoolVar(&adopt, "adopt-unsealed", false, "Accept values that are not sealed")
	return cmd
}

func repairCommand() *cobra.Command {
	var c client
	return c.command(&cobra.Command{
		Use:   "repair",
		Short: "Writes back to the storage what it has lost and the gateway still knows",
		Long: `
Compares what the running gateway has in memory with the storage, and writes
back the facts that the storage has lost: shared tokens, revocations and
settings. Use it after the storage was emptied or restored from an old backup.
The gateway's log and metrics say when that has happened.

A gateway knows the configured messengers, and the stored ones that it was asked
for since it started: run this command on every node before you restart any.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error {
		var answer map[string]int
		if err := c.do(http.MethodPost, "repair", "", struct{}{}, &answer); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d messengers repaired\n", answer["repaired"])
		return err
	})
}
