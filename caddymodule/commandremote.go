package caddymodule

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// exitRefused is the exit status of "explain" for a token that is refused; 1 means that it could not be looked at.
const exitRefused = 2

// remote says where the running gateway is.
type remote struct{ address, config, adapter string }

func (o *remote) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.address, "address", "", "The address of the running gateway's admin endpoint (host:port or unix//path)")
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "The configuration file")
	cmd.Flags().StringVarP(&o.adapter, "adapter", "a", "", "The adapter of the configuration file, if it is neither a Caddyfile nor JSON")
}

// call sends a request to the admin endpoint and decodes its answer into answer.
func (o *remote) call(method, path string, body, answer any) error {
	header, text, err := encodeBody(body)
	if err != nil {
		return err
	}
	return o.send(method, path, header, text, answer)
}

func (o *remote) send(method, path string, header http.Header, text io.Reader, answer any) error {
	address, err := caddycmd.DetermineAdminAPIAddress(o.address, nil, o.config, o.adapter)
	if err != nil {
		return err
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, adminPath+path, header, text)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(answer)
}

// encodeBody returns body as JSON, with the header that says so, and nothing for no body.
func encodeBody(body any) (http.Header, io.Reader, error) {
	header := make(http.Header)
	if body == nil {
		return header, nil, nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, nil, err
	}
	header.Set("Content-Type", "application/json")
	return header, bytes.NewReader(encoded), nil
}

// plainError makes a sentence of what Caddy's client returns: of an error answer, which it quotes as JSON, and of a
// gateway that is not there.
func plainError(err error) error {
	var answer struct {
		Error string `json:"error"`
	}
	if before, members, found := strings.Cut(err.Error(), "{"); found && json.Unmarshal([]byte("{"+members), &answer) == nil && answer.Error != "" {
		status := 0
		_, number, _ := strings.Cut(before, "HTTP ")
		_, _ = fmt.Sscanf(number, "%d", &status) // what is no number stays 0: an error like any other
		return adminError(status, answer.Error)
	}
	if strings.HasPrefix(err.Error(), "performing request:") {
		return fmt.Errorf("%w; does the gateway run, and is this its admin endpoint? --address names it, or --config the gateway's configuration", err)
	}
	return err
}

// named returns the argument that names a messenger, or "". A token or a secret that was given in its place is not
// repeated, nor sent anywhere: the gateway logs the paths that it is asked for.
func named(args []string) (string, error) {
	if len(args) == 0 || args[0] == "" {
		return "", nil
	}
	if err := checkMessengerName(args[0]); err != nil {
		return "", fmt.Errorf("the argument is no messenger's name, which %w; a token is read from standard input", err)
	}
	return args[0], nil
}

// name returns the messenger that is meant: the argument, or the only one that the gateway has.
func (o *remote) name(args []string) (string, error) {
	if name, err := named(args); name != "" || err != nil {
		return name, err
	}
	var list []describedMessenger
	if err := o.call(http.MethodGet, "messengers", nil, &list); err != nil {
		return "", err
	}
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	if len(names) == 1 {
		return names[0], nil
	}
	return "", fmt.Errorf("name the messenger that is meant; configured are: %s", enumerate(names))
}

func messengerPath(name, action string) string {
	return "messengers/" + url.PathEscape(name) + "/" + action
}

func keysCommand() *cobra.Command {
	var gateway remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "keys [<messenger>] [--address <address>] [--config <file>] [--json]",
		Short: "Shows the active keys of a messenger of the running gateway",
		Long: `
Shows which keys verify the messenger's tokens right now, where they are from,
and for a key set from a URL how old it is, when it is fetched next, and which
of its entries are not used, and why. No secret is shown.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := gateway.name(args)
			if err != nil {
				return err
			}
			var keys describedKeys
			if err := gateway.call(http.MethodGet, messengerPath(name, "keys"), nil, &keys); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &keys)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func refreshCommand() *cobra.Command {
	var gateway remote
	var distrust, asJSON bool
	cmd := &cobra.Command{
		Use:   "refresh [<messenger>] [--distrust] [--address <address>] [--config <file>] [--json]",
		Short: "Fetches the key set of a messenger at once",
		Long: `
Fetches the messenger's key set from its URL at once, so that a key that was
withdrawn there stops now and not at the end of the set's lifetime. If the key
server cannot be reached, the keys fetched before stay in force.

With --distrust these are dropped first, for a key that was stolen: until a new
set was fetched, the messenger answers keys_unavailable.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := gateway.name(args)
			if err != nil {
				return err
			}
			var keys describedKeys
			if err := gateway.call(http.MethodPost, messengerPath(name, "refresh"), map[string]bool{"distrust": distrust}, &keys); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &keys)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&distrust, "distrust", false, "Drop the keys fetched before, whether or not new ones can be fetched")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

func explainCommand() *cobra.Command {
	var gateway remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain [<messenger>] [--config <file> [--adapter <name>] | --address <address>] [--json]",
		Short: "Says why a token is accepted or refused",
		Long: `
Reads a token from standard input and makes every check that the gateway makes,
with the same code. Prints each check with its outcome, the headers that the
upstream would get, and for a refusal the likely cause and its fix.

With --config the messengers are taken from that file, and no gateway needs to
run; otherwise the running gateway is asked.

The exit status is 0 if the token is accepted, 2 if it is refused, and 1 if it
could not be looked at. Neither the signature nor a secret is printed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := readToken(cmd)
			if err != nil {
				return err
			}
			explained, err := gateway.explain(args, token)
			if err != nil {
				return err
			}
			if err := show(cmd.OutOrStdout(), asJSON, explained); err != nil || explained.Accepted {
				return err
			}
			cmd.SilenceErrors = true
			return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return exitRefused, nil })(cmd, args)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

// explain asks the running gateway, or makes the messengers of a configuration file here.
func (o *remote) explain(args []string, token string) (*explanation, error) {
	if o.config == "" || o.address != "" {
		name, err := o.name(args)
		if err != nil {
			return nil, err
		}
		explained := new(explanation)
		return explained, o.call(http.MethodPost, messengerPath(name, "explain"), map[string]string{"token": token}, explained)
	}
	wanted, err := named(args)
	if err != nil {
		return nil, err
	}
	if err := quiet(); err != nil {
		return nil, err
	}
	config, _, _, err := caddycmd.LoadConfig(o.config, o.adapter)
	if err != nil {
		return nil, err
	}
	app, done, err := offlineApp(config)
	if err != nil {
		return nil, err
	}
	defer done()
	name, err := app.only(wanted)
	if err != nil {
		return nil, err
	}
	return app.explainOffline(name, token)
}

// readToken reads one line from standard input.
func readToken(cmd *cobra.Command) (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintln(cmd.ErrOrStderr(), "Paste the token and press Enter:")
		line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", err
		}
		return strings.TrimSpace(line), nil
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxAdminBody/2))
	if err != nil {
		return "", err
	}
	if token := strings.TrimSpace(string(text)); token != "" {
		return token, nil
	}
	return "", errors.New("there is no token on standard input; pipe one in: ./caddy messenger explain < token.txt")
}

// A shower can be printed for people.
type shower interface{ text() string }

func show(w io.Writer, asJSON bool, what shower) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(what)
	}
	_, err := io.WriteString(w, what.text())
	return err
}

func (e *explanation) text() string {
	var b strings.Builder
	mode := ""
	if e.Mode != ModeRequired {
		mode = ", mode " + string(e.Mode)
	}
	fmt.Fprintf(&b, "messenger %s (%s%s)\n\n", e.Messenger, e.Method, mode)
	for _, check := range e.Checks {
		mark := map[string]string{"passed": "ok  ", "failed": "FAIL", "not reached": "-   "}[check.Outcome]
		fmt.Fprintf(&b, "  %s  %s", mark, check.Name)
		if check.Reason != "" {
			fmt.Fprintf(&b, ": %s", check.Reason)
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	if !e.Accepted {
		fmt.Fprintf(&b, "refused: %d %s\n  %s\n", e.Status, e.Code, e.Detail)
		for _, finding := range e.Findings {
			fmt.Fprintf(&b, "\n  cause: %s\n  fix:   %s\n", finding.Cause, finding.Fix)
		}
		return b.String()
	}
	if len(e.Upstream) == 0 {
		b.WriteString("accepted, but the upstream gets no identity: mode is off\n")
		return b.String()
	}
	b.WriteString("accepted: the upstream gets\n")
	for i, upstream := range e.Upstream {
		if i > 0 {
			b.WriteString("or, from another messenger_auth of this messenger,\n")
		}
		for _, header := range upstream.Headers {
			fmt.Fprintf(&b, "  %s: %s\n", header.Name, header.Value)
		}
	}
	return b.String()
}

func (d *describedKeys) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "messenger %s (%s) from %s\n\n", d.Messenger, d.Method, strings.Join(d.Sources, ", "))
	for _, key := range d.Keys {
		kid := "no kid"
		if key.KeyID != "" {
			kid = fmt.Sprintf("kid %q", key.KeyID)
		}
		fmt.Fprintf(&b, "  %s  %d bits  %s", key.Algorithm, key.Bits, kid)
		if key.SHA256 != "" {
			fmt.Fprintf(&b, "  sha256 %s…", key.SHA256[:16])
		}
		b.WriteByte('\n')
	}
	if !d.Usable {
		b.WriteString("  no key can be used: requests are answered with keys_unavailable\n")
	}
	for _, line := range []struct {
		what string
		when *time.Time
	}{{"fetched", d.Fetched}, {"fresh until", d.Fresh}, {"last attempt", d.Tried}, {"next attempt", d.Next}} {
		if line.when != nil {
			distance := time.Until(*line.when).Round(time.Second)
			relative := "in " + distance.String()
			if distance < 0 {
				relative = (-distance).String() + " ago"
			}
			fmt.Fprintf(&b, "\n  %-12s  %s (%s)", line.what, line.when.Format(time.RFC3339), relative)
		}
	}
	if d.Fetched != nil || d.Tried != nil {
		b.WriteByte('\n')
	}
	if d.Error != "" {
		fmt.Fprintf(&b, "  last error    %s\n", d.Error)
	}
	for _, entry := range d.Omitted {
		fmt.Fprintf(&b, "  not used      entry %d, kid %q: it %s\n", entry.Index, entry.KeyID, entry.Reason)
	}
	return b.String()
}
