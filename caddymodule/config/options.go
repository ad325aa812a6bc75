package config

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// An OptionParser reads the arguments of one option and stores their values.
type OptionParser func(d *caddyfile.Dispenser) error

// ParseBlock reads the options of a block. An unknown option is an error, and so is a second one that is not in repeatable.
func ParseBlock(d *caddyfile.Dispenser, block string, options map[string]OptionParser, repeatable ...string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, known := options[name]
		if !known {
			return d.Errf("%s: %s", block, unknownOption(block, name, options))
		}
		if seen[name] && !slices.Contains(repeatable, name) {
			return d.Errf("%s: %s is set twice; keep one line", block, name)
		}
		seen[name] = true
		if err := parse(d); err != nil {
			return err
		}
	}
	return nil
}

// lineOption makes a parser out of what reads the arguments of a line, with errors that go on after the option's name.
func lineOption(read func(args []string) error) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := read(d.RemainingArgs()); err != nil {
			return d.Errf("%s %w", name, err)
		}
		return nil
	}
}

func valueOption(target any) OptionParser {
	return lineOption(func(args []string) error { return readValue(target, args) })
}

// StringOption parses an option with one value.
func StringOption(target *string) OptionParser { return valueOption(target) }

// ListOption parses an option with one or more values.
func ListOption(target *[]string) OptionParser { return valueOption(target) }

// DurationOption is for durations whose absence means a default and whose 0 switches off.
func DurationOption(target **caddy.Duration) OptionParser { return valueOption(target) }

// NumberOption is for numbers whose absence means a default and whose 0 switches off.
func NumberOption(target **int) OptionParser { return valueOption(target) }

// ModeOption parses the option mode.
func ModeOption(target *Mode) OptionParser { return valueOption(target) }

// AtToken returns a dispenser whose current token is t, for errors that concern a block as a whole.
func AtToken(t caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d
}
