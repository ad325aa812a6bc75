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

// Option parses an option with one value, or with one or more values for a list. Of a duration or number that is a pointer, the
// absence means a default, and 0 switches off.
func Option[T string | []string | *caddy.Duration | *int | Mode](target *T) OptionParser {
	return lineOption(func(args []string) error { return readValue(target, args) })
}

// AtToken returns a dispenser whose current token is t, for errors that concern a block as a whole.
func AtToken(t caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d
}
