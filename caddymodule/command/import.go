package command

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/transfer"
)

// sendText is how many bytes of lines are sent at a time. A longer line is sent alone.
const sendText = 512 << 10

// importOptions are the flags of "caddy messenger import".
type importOptions struct {
	client
	input, keyFile string
	merge          bool
	registry.ImportOptions
}

func importCommand() *cobra.Command {
	var o importOptions
	cmd := o.canBeOffline(o.command(&cobra.Command{
		Use:   "import --input <file> (--merge | --replace)",
		Short: "Creates messengers, and adds revocations, from a file of export",
		Long: `
Reads what "export" has written. Messengers that do not exist are created.
Revocations, and ends of shared tokens, are added to those that exist; nothing
that is revoked becomes valid again, whatever the file says.

With --merge the settings of messengers that exist are kept, and deleted
messengers stay deleted; differences are named as conflicts. With --replace
settings are replaced by those in the file, and deleted messengers are restored.
With --dry-run nothing is changed, and the command prints what an import would
change.

Shared tokens come only with a messenger that this import creates, or to one of
the configuration that never had one, and only if --secrets has the key with
which they were exported. Otherwise generate one. Importing a file again changes
nothing, so an import that was interrupted can be repeated.

The exit status is 4 if there were conflicts.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error { return o.run(cmd) }))
	f := cmd.Flags()
	f.StringVarP(&o.input, "input", "i", "", "The `file` to read, or - for standard input")
	f.BoolVar(&o.merge, "merge", false, "Keep what is there")
	f.BoolVar(&o.Replace, "replace", false, "Replace settings, and restore deleted messengers")
	f.BoolVar(&o.DryRun, "dry-run", false, "Change nothing, and print what would be changed")
	secretsFlag(cmd, &o.keyFile, "A `file` with the key that opens shared tokens and values of jwks header")
	return cmd
}

// openInput opens a file to be read, or standard input.
func openInput(cmd *cobra.Command, name string) (io.Reader, func(), error) {
	if name == "-" {
		return cmd.InOrStdin(), func() {}, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return file, func() { _ = file.Close() }, nil
}

func (o *importOptions) run(cmd *cobra.Command) error {
	switch {
	case o.input == "":
		return errNoInput
	case o.merge == o.Replace:
		return errors.New("give --merge, which keeps what is there, or --replace")
	}
	key, err := readKey(o.keyFile)
	if err != nil {
		return err
	}
	in, done, err := openInput(cmd, o.input)
	if err != nil {
		return err
	}
	defer done()
	i := &importing{importOptions: o, cmd: cmd, key: key, counts: make(map[string]int), reported: time.Now()}
	err = eachLine(in, transfer.MaxLine, i.add)
	if err == nil {
		err = i.send()
	}
	i.summarize()
	switch {
	case err != nil:
		return err
	case i.end == nil:
		return errors.New("the file has no last line that says it is complete; it may be cut off, and messengers may be missing")
	case i.end.Messengers != i.read:
		return fmt.Errorf("the file has %s, and its last line says %d; lines are missing, or were added", cause.Counted(i.read, "messenger"), i.end.Messengers)
	case i.counts[registry.ImportConflict] > 0:
		return apierror.New(http.StatusConflict, i.conflicts()+": see the lines above")
	}
	return nil
}

var errNoInput = errors.New("--input is missing: it names a file, or - for standard input")

// An importing sends the lines of a file, several at a time.
type importing struct {
	*importOptions
	cmd      *cobra.Command
	key      string
	open     []json.RawMessage // lines that are sent next
	size     int               // bytes of open
	read     int               // messengers in the file so far
	sealed   int               // how many of these have secrets
	counts   map[string]int    // messengers by result
	end      *transfer.End
	reported time.Time // when the progress was last printed
}

// eachLine calls f for every line that is not blank, without its line break. Errors name the number of the line. A line has at most
// limit bytes, to which its line break does not count.
func eachLine(in io.Reader, limit int, f func(text []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, limit+len("\r\n"))
	number := 1
	for ; lines.Scan() && lines.Err() == nil && len(lines.Bytes()) <= limit; number++ { // after an error the last line may be cut off
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := f(bytes.Clone(line)); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) || len(lines.Bytes()) > limit {
		return fmt.Errorf("line %d: it has more than %d bytes", number, limit)
	}
	return lines.Err()
}

// add adds a line to those that are sent next.
func (i *importing) add(text []byte) error {
	line, err := transfer.Parse(text)
	if err != nil {
		return err
	}
	if i.end != nil {
		return errors.New("it comes after the end of the export; import several exports one by one")
	}
	if line.End != nil {
		i.end = line.End
		return nil
	}
	if line.Secrets != "" {
		i.sealed++
	}
	if len(i.open) > 0 && i.size+len(text) > sendText || len(i.open) == admin.MaxImported {
		if err := i.send(); err != nil {
			return err
		}
	}
	i.open, i.size, i.read = append(i.open, text), i.size+len(text), i.read+1
	return nil
}

// send imports the lines that were added. If one of them is not valid, none of them is imported.
func (i *importing) send() error {
	if len(i.open) == 0 {
		return nil
	}
	var answer admin.ImportAnswer
	request := admin.ImportRequest{ImportOptions: i.ImportOptions, Key: i.key, Lines: i.open}
	if err := i.do(http.MethodPost, "import", "", request, &answer); err != nil {
		return fmt.Errorf("messengers %d to %d of the file: %w; what was imported before stays, and importing again changes nothing of it", i.read-len(i.open)+1, i.read, err)
	}
	i.open, i.size = nil, 0
	for _, result := range answer.Results {
		i.counts[result.Result]++
		if result.Result == registry.ImportUnchanged || result.Result == registry.ImportCreated && len(result.Notes) == 0 && !i.DryRun {
			continue
		}
		printable.Printf(i.cmd.OutOrStdout(), "%s\t%s\n", result.Messenger, result.Result)
		for _, note := range result.Notes {
			printable.Printf(i.cmd.OutOrStdout(), "\t%s\n", note)
		}
	}
	if time.Since(i.reported) > progressEvery {
		i.reported = time.Now()
		fmt.Fprintf(i.cmd.ErrOrStderr(), "%s read so far\n", cause.Counted(i.read, "messenger"))
	}
	return nil
}

func (i *importing) conflicts() string {
	return cause.Counted(i.counts[registry.ImportConflict], "conflict")
}

func (i *importing) summarize() {
	if i.sealed > 0 && i.key == "" {
		fmt.Fprintf(i.cmd.ErrOrStderr(), "the file has the sealed shared tokens of %s; without --secrets they are not imported\n", cause.Counted(i.sealed, "messenger"))
	}
	would := ""
	if i.DryRun {
		would = "nothing was changed; an import would have: "
	}
	fmt.Fprintf(i.cmd.ErrOrStderr(), "%s%d created, %d changed, %d unchanged, %s\n", would,
		i.counts[registry.ImportCreated], i.counts[registry.ImportChanged], i.counts[registry.ImportUnchanged], i.conflicts())
}

func importRevocationsCommand() *cobra.Command {
	var c client
	var input string
	cmd := c.canBeOffline(c.command(&cobra.Command{
		Use:   "import <messenger> --input <file>",
		Short: "Revokes many tokens or contacts, from a file",
		Long: `
Reads one revocation a line, as JSON: {"jti": "…"}, {"jti_sha256": "…"},
{"identity": "…", "issued_before": "2026-11-25T08:00:00Z"} or {"all": true}.
"until" says when the token expires, if that is known, so that the revocation
does not have to be kept longer. Revocations that exist already are not changed.`,
	}, thisMessenger, func(cmd *cobra.Command, name string) error {
		if input == "" {
			return errNoInput
		}
		in, done, err := openInput(cmd, input)
		if err != nil {
			return err
		}
		defer done()
		return c.importRevocations(cmd, name, in)
	}))
	cmd.Flags().StringVarP(&input, "input", "i", "", "The `file` to read, or - for standard input")
	return cmd
}

// maxRevocationLine is the size of the longest line of a file of revocations, in bytes.
const maxRevocationLine = 64 << 10

func (c *client) importRevocations(cmd *cobra.Command, name string, in io.Reader) error {
	var total admin.RevocationsAnswer
	var open []revocation.Revocation
	sent := false
	send := func() error {
		switch {
		case len(open) > 0:
			sent = true
		case sent:
			return nil
		default: // the file is empty, but a misspelled messenger is still reported
			return c.do(http.MethodGet, "messengers/"+name, "", nil, new(admin.Description))
		}
		var answer admin.RevocationsAnswer
		if err := c.do(http.MethodPost, "messengers/"+name+"/revocations/import", "", admin.RevocationsRequest{Revocations: open}, &answer); err != nil {
			return err
		}
		open = open[:0]
		total.Revoked, total.Unchanged, total.Ended = total.Revoked+answer.Revoked, total.Unchanged+answer.Unchanged, total.Ended+answer.Ended
		return nil
	}
	err := eachLine(in, maxRevocationLine, func(text []byte) error {
		v, err := readRevocation(text)
		if err != nil {
			return err
		}
		if open = append(open, v); len(open) == admin.MaxRevoked {
			return send()
		}
		return nil
	})
	if err == nil {
		err = send()
	}
	if err != nil && total == (admin.RevocationsAnswer{}) {
		return err
	}
	_, failed := fmt.Fprintf(cmd.OutOrStdout(), "messenger %s: %d revoked, %d were revoked already, or have expired\n%s\n", name, total.Revoked, total.Unchanged, c.endedText(total.Ended))
	return cmp.Or(err, failed)
}

// readRevocation reads a line of a file of revocations. Errors do not quote the line.
func readRevocation(text []byte) (v revocation.Revocation, err error) {
	if err := strictjson.Decode(text, &v, strictjson.Exceptions{}); err != nil {
		return v, fmt.Errorf("it is not a revocation: it %w; see --help", err)
	}
	return v, v.CheckNew()
}
