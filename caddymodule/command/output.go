package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// show prints what as JSON if --json is given, and otherwise the result of text.
func show[T any](c *client, cmd *cobra.Command, what T, text func(T) string) error {
	w := cmd.OutOrStdout()
	if c.asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(what)
	}
	_, err := io.WriteString(w, text(what))
	return err
}

// indented returns what as indented JSON. Every line but the first begins with prefix.
func indented(what any, prefix string) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent(prefix, "  ")
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(what)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
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

// guardOutput makes everything that cmd and its subcommands print go through a Writer, and their errors through
// Error: Caddy's root command prints these, and past the writer. A command whose output is lost fails, whether it looks at that or not.
func guardOutput(cmd *cobra.Command) {
	out := &output{Writer: printable.Writer{Writer: os.Stdout}}
	cmd.SetOut(out)
	cmd.SetErr(printable.Writer{Writer: os.Stderr})
	guardErrors(cmd, out)
}

// An output remembers its first error.
type output struct {
	io.Writer
	lost error
}

func (o *output) Write(text []byte) (int, error) {
	n, err := o.Writer.Write(text)
	if o.lost == nil {
		o.lost = err
	}
	return n, err
}

func guardErrors(cmd *cobra.Command, out *output) {
	run, check := cmd.RunE, cmd.Args
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if out.lost != nil && (err == nil || err == out.lost) {
			err = fmt.Errorf("the command was carried out, and its output could not be printed: %w", out.lost)
		}
		return printable.Error(err)
	}
	if check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return printable.Error(check(cmd, args)) }
	}
	for _, sub := range cmd.Commands() {
		guardErrors(sub, out)
	}
}
