package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// Exit statuses of the commands that change messengers; 1 is any other failure.
const (
	exitNotFound = 3 // there is no such messenger or token
	exitConflict = 4 // what is there does not allow the change
)

// administrator sends requests to the admin API of the running gateway, or, offline, to the same code over the storage
// of a configuration.
type administrator struct {
	remote
	offline bool
	app     *admin.Service
}

func (o *administrator) flags(cmd *cobra.Command) {
	o.remote.flags(cmd)
	cmd.Flags().BoolVar(&o.offline, "offline", false, "Work on the storage that the configuration names, without a running gateway")
}

// run makes the function of a command out of f. The messenger is the only argument where named is true.
func (o *administrator) run(named bool, f func(cmd *cobra.Command, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := silence(); err != nil {
			return err
		}
		done, err := o.open()
		if err != nil {
			return err
		}
		defer done()
		name := ""
		if named {
			if name, err = o.messenger(args); err != nil {
				return err
			}
		}
		return endWith(cmd, args, f(cmd, name))
	}
}

func (o *administrator) messenger(args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("name the messenger that is meant, as the only argument")
	}
	return args[0], nil
}

// open prepares the storage if no gateway is to be asked.
func (o *administrator) open() (done func(), err error) {
	if !o.offline {
		return func() {}, nil
	}
	if o.address != "" {
		return nil, errors.New("--offline and --address exclude each other: one works on the storage, the other asks a running gateway")
	}
	config, _, _, err := caddycmd.LoadConfig(o.config, o.adapter)
	if err != nil {
		return nil, err
	}
	o.app, done, err = admin.OfflineApp(config)
	return done, err
}

func exitStatus(err error) int {
	var answer caddy.APIError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &answer):
		return 1
	}
	switch answer.HTTPStatus {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return exitConflict
	}
	return 1
}

// endWith ends a command with the exit status that err has.
func endWith(cmd *cobra.Command, args []string, err error) error {
	if status := exitStatus(err); status > 1 {
		err = printable.Error(err) // Caddy logs it
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return status, err })(cmd, args)
	}
	return err
}

// do sends a request. condition is a header line such as "If-None-Match: *", or empty.
func (o *administrator) do(method, path, condition string, body, answer any) error {
	header, text, err := encodeBody(body)
	if err != nil {
		return err
	}
	if name, value, found := strings.Cut(condition, ": "); found {
		header.Set(name, value)
	}
	if o.app == nil {
		return o.send(method, path, header, text, answer)
	}
	if text == nil {
		text = http.NoBody
	}
	r, err := http.NewRequest(method, "http://offline"+admin.AdminPath+path, text)
	if err != nil {
		return err
	}
	r.Header = header
	r.RemoteAddr = "offline, uid " + fmt.Sprint(os.Getuid())
	w := &memoryWriter{header: make(http.Header)}
	if err := o.app.ServeAdmin(w, r); err != nil {
		return err
	}
	return json.Unmarshal(w.body.Bytes(), answer)
}

// A memoryWriter keeps an answer.
type memoryWriter struct {
	header http.Header
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(int) {}

func (w *memoryWriter) Write(text []byte) (int, error) { return w.body.Write(text) }

func listCommand() *cobra.Command {
	var o administrator
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--offline] [--config <file>] [--address <address>] [--json]",
		Short: "Lists the messengers, configured and stored",
		Args:  noArguments("it takes no arguments; see --help"),
		RunE: o.run(false, func(cmd *cobra.Command, _ string) error {
			all := messengerList{}
			for after := ""; ; {
				var page messengerList
				if err := o.do(http.MethodGet, "messengers?after="+url.QueryEscape(after), "", nil, &page); err != nil {
					return err
				}
				all = append(all, page...)
				if len(page) == 0 || page[len(page)-1].Source != registry.SourceStored || page[len(page)-1].Name <= after {
					return show(cmd.OutOrStdout(), asJSON, &all, messengersText)
				}
				after = page[len(page)-1].Name
			}
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

type messengerList []admin.Description

func messengersText(l *messengerList) string {
	if len(*l) == 0 {
		return "no messengers\n"
	}
	return table(func(w io.Writer) {
		fmt.Fprintln(w, "MESSENGER\tMETHOD\tMODE\tFROM\tCHANGED")
		for _, m := range *l {
			printable.Printf(w, "%s\t%s\t%s\t%s\t%s\n", m.Name, m.Method, m.Mode, m.Source, date(m.Changed))
		}
	})
}

func table(fill func(w io.Writer)) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fill(w)
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

func date(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04 MST")
}

func showMessengerCommand() *cobra.Command {
	var o administrator
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show <messenger> [--offline] [--config <file>] [--address <address>] [--json]",
		Short: "Shows the settings of one messenger",
		Args:  oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			var m admin.Description
			if err := o.do(http.MethodGet, "messengers/"+name, "", nil, &m); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &m, messengerText)
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func messengerText(m *admin.Description) string {
	from := "the configuration"
	if m.Source == registry.SourceStored {
		from = "the storage, revision " + m.Revision + ", changed " + date(m.Changed)
	}
	settings, _ := json.MarshalIndent(m.Settings, "", "  ") // settings were read from JSON
	var b strings.Builder
	printable.Printf(&b, "messenger %s (%s, mode %s), from %s\n\n", m.Name, m.Method, m.Mode, from)
	b.Write(settings) // JSON, in which a value has no line breaks
	b.WriteByte('\n')
	for _, warning := range m.Warnings {
		printable.Printf(&b, "\nwarning: %s\n", warning)
	}
	return b.String()
}

func deleteCommand() *cobra.Command {
	var o administrator
	cmd := &cobra.Command{
		Use:   "delete <messenger> [--offline] [--config <file>] [--address <address>]",
		Short: "Deletes a stored messenger with its shared tokens",
		Long: `
Deletes a stored messenger and its shared tokens. A messenger that is created
under the same name later gets nothing of them. Messengers of the configuration
are removed there.`,
		Args: oneMessenger,
		RunE: o.run(true, func(cmd *cobra.Command, name string) error {
			if err := o.do(http.MethodDelete, "messengers/"+name, "", nil, &struct{}{}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "messenger %s is deleted\n", name)
			return err
		}),
	}
	o.flags(cmd)
	return cmd
}

func resealCommand() *cobra.Command {
	var o administrator
	var adopt bool
	cmd := &cobra.Command{
		Use:   "reseal [--adopt-unsealed] [--offline] [--config <file>] [--address <address>]",
		Short: "Seals everything in the store with the first store key",
		Long: `
Reads all values of the store with any of the configured keys and writes them
again with the first one. To change keys, put the new one in front, reload all
nodes, reseal, and remove the old one.

With --adopt-unsealed values are taken that are not sealed at all, such as those
from before the first key was configured. Whoever could write to the storage may
have put something there: look at it first with list and show, before the key is
configured.`,
		Args: noArguments("it takes no arguments; see --help"),
		RunE: o.run(false, func(cmd *cobra.Command, _ string) error {
			var answer map[string]int
			if err := o.do(http.MethodPost, "reseal", "", map[string]bool{"adopt_unsealed": adopt}, &answer); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d values resealed\n", answer["resealed"])
			return err
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&adopt, "adopt-unsealed", false, "Take values that are not sealed")
	return cmd
}
