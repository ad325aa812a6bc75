package command

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

func listCommand() *cobra.Command {
	var c client
	cmd := c.canBeOffline(c.jsonFlag(c.command(&cobra.Command{
		Use:   "list",
		Short: "Lists the messengers, configured and stored",
		Long: `
Lists the messengers: first those of the configuration, and then the stored ones
by name. --search lists those with a text in their name, however many there are.
With another filter, or --sort changed, at most 10,000 names can be searched.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error { return c.list(cmd) })))
	flags := cmd.Flags()
	flags.String("search", "", "Only messengers with this `text` in their name")
	flags.String("method", "", "Only messengers with this validation `method`: public_key, jwks or shared_token")
	flags.String("mode", "", "Only messengers with this `mode`: required, optional, report or off")
	flags.String("source", "", "Only messengers from this `source`: config or stored")
	flags.String("sort", "", "The `order`: changed, for the last change first (default by name)")
	return cmd
}

// list prints page by page: there may be more messengers than fit into memory.
func (c *client) list(cmd *cobra.Command) error {
	query := make(url.Values)
	for _, name := range []string{"search", "method", "mode", "source", "sort"} {
		if value, _ := cmd.Flags().GetString(name); value != "" {
			query.Set(name, value)
		}
	}
	out := listPrinter{c: c, w: cmd.OutOrStdout()}
	for {
		var page []admin.Description
		header, err := c.ask(http.MethodGet, "messengers?"+query.Encode(), "", nil, &page)
		if err != nil {
			return err
		}
		after := nextPage(header)
		if err := out.print(page, after == ""); err != nil || after == "" {
			return err
		}
		query.Set("after", after)
	}
}

// nextPage returns the cursor of the next page, as the header Link of a page has it, or "".
func nextPage(header http.Header) string {
	link, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	next, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return next.Query().Get("after")
}

// A listPrinter prints a list of messengers page by page: as one JSON array, or as tables of which the first has a head.
type listPrinter struct {
	c       *client
	w       io.Writer
	printed int
}

func (p *listPrinter) print(page []admin.Description, last bool) error {
	if !p.c.asJSON {
		text := ""
		if len(page) > 0 || last && p.printed == 0 {
			text = messengersText(page, p.printed == 0)
		}
		p.printed += len(page)
		_, err := io.WriteString(p.w, text)
		return err
	}
	for _, m := range page {
		text, err := indented(m, "  ")
		if err != nil {
			return err
		}
		before := ",\n  "
		if p.printed == 0 {
			before = "[\n  "
		}
		if _, err := fmt.Fprintf(p.w, "%s%s", before, text); err != nil {
			return err
		}
		p.printed++
	}
	if !last {
		return nil
	}
	end := "\n]\n"
	if p.printed == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(p.w, end)
	return err
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

func repairCommand() *cobra.Command {
	var c client
	return c.command(&cobra.Command{
		Use:   "repair",
		Short: "Writes back what the storage has lost",
		Long: `
Compares what the running gateway has in memory with the storage, and writes
back the facts that the storage has lost or cannot give back: shared tokens,
revocations and settings. Use it after the storage was emptied or restored from
an old backup. The gateway's log and metrics say when that has happened.

A gateway knows the configured messengers, and the stored ones that it was asked
for since it started: run this command on every node before you restart any.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error {
		var done registry.Repaired
		if err := c.do(http.MethodPost, "repair", "", struct{}{}, &done); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s repaired\n", cause.Counted(done.Messengers, "messenger"))
		if done.KeySets > 0 {
			fmt.Fprintf(cmd.OutOrStdout(), "%s distrusted again\n", cause.Counted(done.KeySets, "key set"))
		}
		for _, failure := range done.Failed {
			printable.Printf(cmd.ErrOrStderr(), "%s: %s\n", cmp.Or(failure.Messenger, failure.KeySet), failure.Error)
		}
		if n := len(done.Failed); n > 0 {
			return fmt.Errorf("of these %d could not be repaired, or not whole", n)
		}
		return nil
	})
}
