package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

// exitRefused is the exit status of "explain" for a token that is refused; 1 means that it could not be looked at.
const exitRefused = 2

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
		Args: oneMessenger,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := readToken(cmd)
			if err != nil {
				return err
			}
			explained, err := gateway.explain(args, token)
			if err != nil {
				return err
			}
			if err := show(cmd.OutOrStdout(), asJSON, explained, explanationText); err != nil || explained.Accepted {
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
func (o *remote) explain(args []string, token string) (*admin.Explanation, error) {
	if o.config == "" || o.address != "" {
		name, err := o.name(args)
		if err != nil {
			return nil, err
		}
		explained := new(admin.Explanation)
		return explained, o.call(http.MethodPost, messengerPath(name, "explain"), map[string]string{"token": token}, explained)
	}
	if err := silence(); err != nil {
		return nil, err
	}
	config, _, _, err := caddycmd.LoadConfig(o.config, o.adapter)
	if err != nil {
		return nil, err
	}
	app, done, err := admin.OfflineApp(config)
	if err != nil {
		return nil, err
	}
	defer done()
	wanted := ""
	if len(args) == 1 {
		wanted = args[0]
	}
	name, err := only(app, wanted)
	if err != nil {
		return nil, err
	}
	return app.ExplainOffline(name, token)
}

// readToken reads a token from standard input.
func readToken(cmd *cobra.Command) (string, error) {
	var text string
	if term.IsTerminal(int(os.Stdin.Fd())) {
		var err error
		if text, err = readHidden(os.Stdin, os.Stderr); err != nil {
			return "", err
		}
	} else {
		piped, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxTokenInput))
		if err != nil {
			return "", err
		}
		text = string(piped)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", errors.New("there is no token on standard input; pipe one in: ./caddy messenger explain < token.txt")
	}
	return text, nil
}

// maxTokenInput is how much is read for a token in bytes: more than any that the gateway takes, so that it can say so.
const maxTokenInput = admin.MaxAdminBody / 2

// readHidden reads a line from a terminal without showing it. The terminal's own editing of lines is off meanwhile: it
// would cut a line after 4095 bytes. The prompt, a constant, goes to the terminal directly: it needs a carriage return then. What was pasted behind a line break is read too, so that it does not end up as a
// command in the shell.
func readHidden(terminal *os.File, prompt io.Writer) (string, error) {
	state, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(int(terminal.Fd()), state) }()
	fmt.Fprint(prompt, "Paste the token and press Enter; it is not shown:\r\n")
	const interrupt, endOfText, backspace, deletion = 3, 4, 8, 127
	var line []byte
	chunk := make([]byte, 4096)
	for len(line) < maxTokenInput {
		n, err := terminal.Read(chunk)
		if err != nil && err != io.EOF {
			return "", err
		}
		for i, c := range chunk[:n] {
			switch {
			case c == interrupt:
				return "", errors.New("interrupted")
			case c == endOfText, (c == '\r' || c == '\n') && i == n-1:
				return string(line), nil
			case c == backspace, c == deletion:
				line = line[:max(len(line)-1, 0)]
			default:
				line = append(line, c)
			}
		}
		if err == io.EOF {
			break
		}
	}
	return string(line), nil
}

// only returns name, or the name of the only messenger if name is empty.
func only(a *admin.Service, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	switch names := a.Names(); len(names) {
	case 0:
		return "", errors.New("the configuration has no messenger; add the global option messenger <name> { … }, or name a stored messenger")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("name the messenger that is meant; configured are: %s", enumerate(a.Names()))
}
