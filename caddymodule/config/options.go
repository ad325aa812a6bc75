package config

import (
	"slices"
	"strconv"

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
			return d.Errf("%s: unknown option %q", block, name)
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

// StringOption parses an option with one value.
func StringOption(target *string) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if args := d.RemainingArgs(); len(args) == 1 && args[0] != "" {
			*target = args[0]
			return nil
		}
		return d.Errf("%s takes exactly one value", name)
	}
}

// ListOption parses an option with one or more values.
func ListOption(target *[]string) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("%s takes at least one value", name)
		}
		*target = append(*target, args...)
		return nil
	}
}

// DurationOption parses a duration. It is a pointer because absence means the default, and 0 means off.
func DurationOption(target **caddy.Duration) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		*target = new(caddy.Duration)
		return parseDuration(d, *target)
	}
}

func parseDuration(d *caddyfile.Dispenser, target *caddy.Duration) error {
	name := d.Val()
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("%s takes one duration, such as 90s, 15m or 1h", name)
	}
	duration, err := caddy.ParseDuration(args[0])
	if err != nil {
		return d.Errf("%s %q is not a duration; write one such as 90s, 15m or 1h", name, args[0])
	}
	*target = caddy.Duration(duration)
	return nil
}

// NumberOption parses a number. It is a pointer because absence means the default, and 0 means off.
func NumberOption(target **int) OptionParser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) != 1 {
			return d.Errf("%s takes one number", name)
		}
		number, err := strconv.Atoi(args[0])
		if err != nil || number < 0 {
			return d.Errf("%s %q is no number of 0 or more", name, args[0])
		}
		*target = &number
		return nil
	}
}

// ParseMode parses the option mode.
func ParseMode(d *caddyfile.Dispenser, target *Mode) error {
	value := ""
	if err := StringOption(&value)(d); err != nil {
		return err
	}
	*target = Mode(value)
	if err := target.Check(); err != nil {
		return d.Errf("mode %q %w", value, err)
	}
	return nil
}

// AtToken returns a dispenser whose current token is t, for errors that concern a block as a whole.
func AtToken(t caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d
}
