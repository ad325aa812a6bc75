package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

// exitRefused is the exit status of "explain" for a token that is refused. The others are those of all commands.
const exitRefused = 2

func explainCommand() *cobra.Command {
	var c client
	cmd := c.jsonFlag(&cobra.Command{
		Use:   "explain [<messenger>]",
		Short: "Shows why a token is accepted or refused",
		Long: `
Reads a token from standard input and makes every check of it that the gateway
makes, with the same code. Prints each check with its outcome, the headers that
the upstream would get, and for a refusal the likely cause and its fix.

With --config and without --address the messengers of that file are used, and no
gateway needs to run; otherwise the running gateway is asked.

The exit status is 0 if the token is accepted, 2 if it is refused, 3 if there is
no such messenger, and 1 if it could not be checked, such as without the keys of
a key server. Neither the signature nor a secret is printed.`,
		Args: oneMessenger,
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := readToken(cmd)
			if err != nil {
				return err
			}
			explained, err := c.explain(args, token)
			if err != nil {
				return endWith(cmd, args, err)
			}
			if err := show(&c, cmd, explained, explanationText); err != nil || explained.Accepted {
				return err
			}
			if explained.Status == http.StatusServiceUnavailable {
				return errUndecided
			}
			return endQuietly(cmd, args, exitRefused)
		},
	})
	c.gatewayFlags(cmd)
	return cmd
}

// errUndecided leads to exit status 1 and not to that of a refusal, because the token may be valid.
var errUndecided = errors.New("the token could not be checked: the gateway cannot decide at the moment")

// explain asks the running gateway, or uses the messengers of a configuration file.
func (c *client) explain(args []string, token string) (*admin.Explanation, error) {
	if err := silence(); err != nil {
		return nil, err
	}
	if c.config != "" && c.address == "" {
		done, err := c.openConfiguration(args)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	name, err := c.messenger(args)
	if err != nil {
		return nil, err
	}
	if c.service != nil {
		return c.service.ExplainOffline(name, token)
	}
	explained := new(admin.Explanation)
	return explained, c.do(http.MethodPost, "messengers/"+name+"/explain", "", map[string]string{"token": token}, explained)
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

// maxTokenInput is how many bytes are read for a token: more than the gateway accepts, so that it can report that.
const maxTokenInput = admin.MaxAdminBody / 2

// readHidden reads a line from a terminal without showing it. The terminal's own line editing is off meanwhile, because it would
// cut a line after 4095 bytes; so the prompt needs a carriage return. Text that was pasted after a line break is read too, so that
// the shell does not run it as a command.
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
