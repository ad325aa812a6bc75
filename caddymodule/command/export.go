package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/transfer"
)

// secretsFlag adds the flag for the key of the secrets.
func secretsFlag(cmd *cobra.Command, file *string, usage string) {
	cmd.Flags().StringVar(file, "secrets", "", usage)
}

// readKey returns the key in a file, or "" for no file.
func readKey(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	found, err := config.ReadArgument(file)
	if err == nil {
		_, err = transfer.NewSealer(string(found.Text))
	}
	if err != nil {
		return "", fmt.Errorf("--secrets: %w", err)
	}
	return strings.TrimSpace(string(found.Text)), nil
}

func exportCommand() *cobra.Command {
	var c client
	var keyFile, output string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "export",
		Short: "Writes all messengers to a file: settings and revocations",
		Long: `
Writes one line of JSON for each messenger: the settings of a stored messenger,
the revocations of a stored or configured one, and the kids of its shared
tokens with their ends. The last line says that the file is complete. Use it
for backups, for moving to another storage, and for version control.

The text of shared tokens is written only with --secrets, and is sealed
(AES-256-GCM) with the key in that file, of the same form as a store key:
32 random bytes in base64, as "openssl rand -base64 32" makes them. Keep the key
apart from the file.

The file is created with the permissions 0600, and is there only when it is
complete. An existing file is not overwritten.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error {
		key, err := readKey(keyFile)
		if err != nil {
			return err
		}
		return c.export(cmd, output, key)
	}))
	secretsFlag(cmd, &keyFile, "A `file` with the key that seals shared tokens and values of jwks header")
	cmd.Flags().StringVarP(&output, "output", "o", "-", "The `file` to write, or - for standard output")
	return cmd
}

func (c *client) export(cmd *cobra.Command, output, key string) (err error) {
	if output == "-" {
		return c.exportTo(cmd, os.Stdout, key) // not escaped for terminals: the lines are ASCII
	}
	file, done, err := newFile(output)
	if err != nil {
		return err
	}
	defer func() { err = done(err) }()
	return c.exportTo(cmd, file, key)
}

// newFile makes a file that gets its name when done is called without an error.
func newFile(name string) (file *os.File, done func(error) error, err error) {
	if _, err := os.Lstat(name); err == nil {
		return nil, nil, fmt.Errorf("the file %s exists already, and is not overwritten; choose another name, or remove it", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	part := name + ".part"
	file, err = os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, nil, fmt.Errorf("the file %s exists already: another export is writing it, or was interrupted; remove it if none is running", part)
	}
	if err != nil {
		return nil, nil, err
	}
	return file, func(failed error) error {
		if failed == nil {
			failed = file.Sync()
		}
		if err := file.Close(); failed == nil {
			failed = err
		}
		if failed == nil {
			failed = os.Rename(part, name)
		}
		if failed != nil {
			_ = os.Remove(part) // it would stop the next export
		}
		return failed
	}, nil
}

// exportTo writes an export. It names messengers that cannot be read, and exports the others.
func (c *client) exportTo(cmd *cobra.Command, w io.Writer, key string) error {
	out := bufio.NewWriter(w)
	about := cmd.ErrOrStderr()
	count, failed, reported := 0, 0, time.Now()
	for after := ""; ; {
		var part admin.ExportPart
		if err := c.do(http.MethodPost, "export", "", admin.ExportRequest{After: after, Key: key}, &part); err != nil {
			return err
		}
		for _, line := range part.Lines {
			_, _ = out.Write(line) // Flush returns the error
			_ = out.WriteByte('\n')
		}
		for _, f := range part.Failed {
			printable.Printf(about, "messenger %s is not in the file: %s\n", f.Messenger, f.Error)
		}
		count, failed = count+len(part.Lines), failed+len(part.Failed)
		if part.Next == "" {
			break
		}
		if part.Next <= after {
			return errors.New("the gateway returned the same page again; try again")
		}
		if after = part.Next; time.Since(reported) > progressEvery {
			reported = time.Now()
			fmt.Fprintf(about, "%s exported so far\n", cause.Counted(count, "messenger"))
		}
	}
	end, err := transfer.EncodeEnd(count)
	if err != nil {
		return err
	}
	_, _ = out.Write(end)
	if err := out.Flush(); err != nil {
		return err
	}
	how := "without the text of shared tokens (--secrets)"
	if key != "" {
		how = "the text of shared tokens is sealed"
	}
	fmt.Fprintf(about, "%s exported, %s\n", cause.Counted(count, "messenger"), how)
	if failed > 0 {
		return fmt.Errorf("%s could not be read, and left out of the file: see the lines above", cause.Counted(failed, "messenger"))
	}
	return nil
}
