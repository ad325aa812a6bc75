package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// remote says where the running gateway is.
type remote struct{ address, config, adapter string }

func (o *remote) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.address, "address", "", "The address of the running gateway's admin endpoint (host:port or unix//path)")
	cmd.Flags().StringVarP(&o.config, "config", "c", "", "The configuration file")
	cmd.Flags().StringVarP(&o.adapter, "adapter", "a", "", "The adapter of the configuration file, if it is neither a Caddyfile nor JSON")
}

// silence keeps Caddy from logging what it loads; on a terminal these lines would be mixed with ours.
func silence() error {
	_, err := caddy.ProvisionContext(&caddy.Config{Logging: admin.QuietLogging()})
	return err
}

// call sends a request to the admin endpoint and decodes its answer into answer.
func (o *remote) call(method, path string, body, answer any) error {
	if err := silence(); err != nil {
		return err
	}
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
	// Caddy's client waits for ever where an endpoint takes a connection and says nothing.
	answered := make(chan error, 1)
	go func() {
		resp, err := caddycmd.AdminAPIRequest(address, method, admin.AdminPath+path, header, text)
		if err != nil {
			answered <- plainError(err)
			return
		}
		defer resp.Body.Close()
		answered <- json.NewDecoder(resp.Body).Decode(answer)
	}()
	select {
	case err := <-answered:
		return err
	case <-time.After(adminWait(path)):
		return fmt.Errorf("the admin endpoint %s has not answered in %s; what was asked of it may still be done. Look whether the gateway hangs, or its storage", address, adminWait(path))
	}
}

// adminWait is how long the gateway may take to answer. To seal a large store anew takes its time.
func adminWait(path string) time.Duration {
	if path == "reseal" {
		return time.Hour
	}
	return time.Minute
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
		_, _ = fmt.Sscanf(number, "%d", &status) // text that is not a number stays 0: an error like any other
		return registry.StatusError(status, answer.Error)
	}
	if strings.HasPrefix(err.Error(), "performing request:") {
		return fmt.Errorf("%w; does the gateway run, and is this its admin endpoint? --address names it, or --config the gateway's configuration", err)
	}
	return err
}

// oneMessenger takes at most one argument, the name of a messenger. A token or a secret that was given in its place is not
// repeated, nor sent anywhere: the gateway logs the paths that it is asked for.
func oneMessenger(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return errors.New("at most one messenger can be named; a token is read from standard input")
	}
	if len(args) == 1 {
		if err := config.CheckName(args[0]); err != nil {
			return fmt.Errorf("the argument is no messenger's name, which %w; a token is read from standard input", err)
		}
	}
	return nil
}

// name returns the messenger that is meant: the argument, or the only one that the gateway has.
func (o *remote) name(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	var list []admin.Description
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
		Args: oneMessenger,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := gateway.name(args)
			if err != nil {
				return err
			}
			var keys admin.KeysInfo
			if err := gateway.call(http.MethodGet, messengerPath(name, "keys"), nil, &keys); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &keys, keysText)
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
		Args: oneMessenger,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := gateway.name(args)
			if err != nil {
				return err
			}
			var keys admin.KeysInfo
			if err := gateway.call(http.MethodPost, messengerPath(name, "refresh"), map[string]bool{"distrust": distrust}, &keys); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, &keys, keysText)
		},
	}
	gateway.flags(cmd)
	cmd.Flags().BoolVar(&distrust, "distrust", false, "Drop the keys fetched before, whether or not new ones can be fetched")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}
