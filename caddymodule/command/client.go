package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// Exit statuses of the commands that talk to a gateway; 1 is any other failure.
const (
	exitNotFound = 3 // there is no such messenger or token
	exitConflict = 4 // the current state does not allow the change
)

// A client sends the requests of one command to the admin API of the running gateway or, with --offline, to the same code on the
// storage of a configuration.
type client struct {
	address, config, adapter string
	offline, asJSON          bool
	newStore                 bool           // the storage may have no store yet
	service                  *admin.Service // answers in place of a running gateway; nil if a gateway is asked
	place                    place          // the storage of service
}

// An argument is what a command takes as its argument.
type argument int

const (
	noMessenger   argument = iota
	anyMessenger           // the only messenger if none is named
	thisMessenger          // the messenger has to be named
)

// command makes cmd a command that talks to the gateway, with the flags that say where the gateway is. run gets the name of the
// messenger.
func (c *client) command(cmd *cobra.Command, takes argument, run func(cmd *cobra.Command, name string) error) *cobra.Command {
	c.gatewayFlags(cmd)
	if takes == noMessenger {
		cmd.Args = noArguments("it takes no arguments; see --help")
	} else {
		cmd.Args, cmd.ValidArgsFunction = oneMessenger, c.complete
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if takes == thisMessenger && len(args) == 0 {
			return errors.New("name the messenger as the only argument")
		}
		if err := silence(); err != nil {
			return err
		}
		if c.offline {
			done, err := c.openStorage(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer done()
		}
		name := ""
		if takes != noMessenger {
			var err error
			if name, err = c.messenger(args); err != nil {
				return endWith(cmd, args, err)
			}
		}
		return endWith(cmd, args, run(cmd, name))
	}
	return cmd
}

func (c *client) gatewayFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.address, "address", "", "The `address` of the gateway's admin endpoint (host:port or unix//path)")
	cmd.Flags().StringVarP(&c.config, "config", "c", "", "The configuration `file`")
	cmd.Flags().StringVarP(&c.adapter, "adapter", "a", "", "The `adapter` of a configuration that is neither a Caddyfile nor JSON")
}

// canBeOffline adds the flag --offline to a command whose answer does not depend on a running gateway.
func (c *client) canBeOffline(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.offline, "offline", false, "Work on the storage that the configuration names, without a running gateway")
	cmd.Flags().BoolVar(&c.newStore, "new-store", false, "With --offline: begin a store if the storage has none yet")
	return cmd
}

func (c *client) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "Print JSON")
	return cmd
}

// printing makes cmd a command that prints the answer of the admin API to a GET of path. A %s in path is the messenger.
func printing[T any](c *client, cmd *cobra.Command, takes argument, path string, text func(*T) string) *cobra.Command {
	return c.jsonFlag(c.command(cmd, takes, func(cmd *cobra.Command, name string) error {
		answer := new(T)
		if err := c.do(http.MethodGet, strings.Replace(path, "%s", name, 1), "", nil, answer); err != nil {
			return err
		}
		return show(c, cmd, answer, text)
	}))
}

// oneMessenger accepts at most one argument, the name of a messenger. A token or a secret that was given in its place is
// neither repeated in the error nor sent, because the gateway logs the paths of requests.
func oneMessenger(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return errors.New("too many arguments: name one messenger; a token is read from standard input")
	}
	if len(args) == 1 {
		if err := config.CheckName(args[0]); err != nil {
			return fmt.Errorf("the argument is not the name of a messenger, which %w; a token is read from standard input", err)
		}
	}
	return nil
}

// messenger returns the messenger that the arguments name, or the only one.
func (c *client) messenger(args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	var names []string
	if c.service != nil {
		names = c.service.Names()
	} else {
		var list []admin.Description
		if err := c.do(http.MethodGet, "messengers?limit=20", "", nil, &list); err != nil {
			return "", err
		}
		for _, m := range list {
			names = append(names, m.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", errors.New("the gateway has no messenger; add the global option messenger <name> { … }, or create one: caddy messenger create")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("name the messenger; these exist: %s", firstNames(names))
}

// firstNames returns the first of the names, and says if there are more.
func firstNames(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and more; see: caddy messenger list"
}

// silence keeps Caddy from logging what it loads. On a terminal its lines would be mixed with the output of the command.
func silence() error {
	_, err := caddy.ProvisionContext(&caddy.Config{Logging: admin.QuietLogging()})
	return err
}

// openStorage makes the service that answers in place of a running gateway, and says on w where it works. The caller must call done
// when it no longer needs the service.
func (c *client) openStorage(w io.Writer) (done func(), err error) {
	if c.address != "" {
		return nil, errors.New("--offline and --address exclude each other: one works on the storage, the other asks a running gateway")
	}
	config, _, _, err := caddycmd.LoadConfig(c.config, c.adapter)
	if err != nil {
		return nil, err
	}
	if c.service, done, err = admin.OfflineApp(config); err != nil {
		return nil, err
	}
	c.place = placeOf(c.service.Storage, config)
	c.place.say(w)
	if c.newStore {
		return done, nil
	}
	if err := c.place.check(c.service.Store.Vault); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// openConfiguration makes the service of a configuration. If that fails, it tries with only the messenger that args name: on the
// machine where a token is explained, the key files of other messengers may be missing.
func (c *client) openConfiguration(args []string) (done func(), err error) {
	config, _, _, err := caddycmd.LoadConfig(c.config, c.adapter)
	if err != nil {
		return nil, err
	}
	if c.service, done, err = admin.OfflineApp(config); err == nil || len(args) == 0 {
		return done, err
	}
	reduced, found := admin.OnlyMessenger(config, args[0])
	if !found {
		return nil, err
	}
	c.service, done, err = admin.OfflineApp(reduced)
	return done, err
}

// plainError extracts the gateway's error from err: Caddy's client quotes the gateway's answer as JSON. If the gateway cannot be
// reached, plainError adds what to do.
func plainError(err error) error {
	var answer struct {
		Error string `json:"error"`
	}
	if before, members, found := strings.Cut(err.Error(), "{"); found && json.Unmarshal([]byte("{"+members), &answer) == nil && answer.Error != "" {
		status := 0
		_, number, _ := strings.Cut(before, "HTTP ")
		_, _ = fmt.Sscanf(number, "%d", &status) // text that is not a number stays 0: an error like any other
		return apierror.New(status, answer.Error)
	}
	if strings.HasPrefix(err.Error(), "performing request:") {
		return fmt.Errorf("%w; is the gateway running, and is this its admin endpoint? --address names it, or --config the gateway's configuration", err)
	}
	return err
}

// endWith ends a command with the exit status of err. An error is printed here if its status is not 1: Caddy would log it, which
// on a terminal looks different from all other errors.
func endWith(cmd *cobra.Command, args []string, err error) error {
	status := exitStatus(err)
	if status <= 1 {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "Error:", printable.Error(err))
	return endQuietly(cmd, args, status)
}

// endQuietly ends a command with a status other than 0 and 1.
func endQuietly(cmd *cobra.Command, args []string, status int) error {
	cmd.SilenceErrors = true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return status, nil })(cmd, args)
}

func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	switch apierror.Status(err) {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired:
		return exitConflict
	}
	return 1
}

const (
	completionWait  = 2 * time.Second // a person waits at the prompt
	completionNames = 100
)

// complete returns the messengers whose names begin with what was typed, for the completion of a shell. It is silent if the
// gateway cannot be asked: an error cannot be shown in the middle of a line that is being typed.
func (c *client) complete(_ *cobra.Command, args []string, typed string) (names []string, _ cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	// Other text may be a token or a secret, which must not get into a URL.
	if len(args) > 0 || c.offline || typed != "" && config.CheckName(typed) != nil || silence() != nil {
		return nil, directive
	}
	query := url.Values{"search": {typed}, "limit": {"1000"}}
	var list []admin.Description
	err := answerWithin(completionWait, "", func() error {
		return c.do(http.MethodGet, "messengers?"+query.Encode(), "", nil, &list)
	})
	if err != nil {
		return nil, directive // list must not be read: the request may still write to it
	}
	for _, d := range list {
		if len(names) < completionNames && strings.HasPrefix(d.Name, strings.ToLower(typed)) {
			names = append(names, d.Name)
		}
	}
	return names, directive
}
