package command

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Help is read in a terminal of 80 columns, which breaks longer lines in the middle of a word. Usage lines and flags may be longer.
func TestHelpFitsIntoATerminal(t *testing.T) {
	const columns = 80
	checked := 0
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		checked++
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > columns {
				t.Errorf("%s: a line has %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			if n := len("  ") + sub.NamePadding() + len(" ") + utf8.RuneCountInString(sub.Short); n > columns {
				t.Errorf("%s: its line in the list of commands has %d columns: %s", sub.CommandPath(), n, sub.Short)
			}
			check(sub)
		}
	}
	root := &cobra.Command{Use: "messenger"}
	addCommands(root)
	check(root)
	if checked < 20 {
		t.Errorf("only %d commands were checked", checked)
	}
}
