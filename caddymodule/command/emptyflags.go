package command

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Most flags restrict what a command does, or say where it takes something from. With an empty value it would do it to everything, or to
// something else: that is what a script asks for whose variable is not set (--identity "$ID"). So a flag that is given and empty is
// refused, whatever the command, unless an empty value has a meaning of its own.

// emptyHasMeaning is the annotation of flags for which an empty value has a meaning.
const emptyHasMeaning = "empty-has-meaning"

// mayBeEmpty lets a flag be empty. Its help says what that means.
func mayBeEmpty(cmd *cobra.Command, flag, meaning string) {
	cmd.Flags().Lookup(flag).Usage += "; an empty one " + meaning
	_ = cmd.Flags().SetAnnotation(flag, emptyHasMeaning, nil) // it fails for an unknown flag only
}

// refuseEmpty makes cmd and its subcommands refuse flags that are given and empty.
func refuseEmpty(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var empty error
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if _, allowed := f.Annotations[emptyHasMeaning]; !allowed && isEmpty(f) && empty == nil {
				empty = fmt.Errorf("--%s is empty; give it a value, or leave it out", f.Name)
			}
		})
		if empty != nil {
			return empty
		}
		return run(cmd, args)
	}
	for _, sub := range cmd.Commands() {
		refuseEmpty(sub)
	}
}

// isEmpty reports whether the value of a flag is empty, or one of its values.
func isEmpty(f *pflag.Flag) bool {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return slices.Contains(list.GetSlice(), "")
	}
	return f.Value.String() == ""
}
