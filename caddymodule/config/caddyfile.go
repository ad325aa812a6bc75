package config

import (
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// ParseMessenger reads the block of one messenger.
func ParseMessenger(d *caddyfile.Dispenser, name string) (*Messenger, error) {
	place := d.Token()
	m := new(Messenger)
	options, repeatable := m.options("")
	options["jwks"], options["shared_token"], options["previous"] = m.parseJWKS, m.parseSharedToken, m.parsePrevious
	if err := ParseBlock(d, "messenger "+name, options, repeatable...); err != nil {
		return nil, err
	}
	if err := m.withoutPlaceholders().CheckSettings(); err != nil {
		return nil, AtToken(place).Errf("messenger %s: %w", name, err)
	}
	return m, nil
}

func (m *Messenger) parseJWKS(d *caddyfile.Dispenser) error {
	place := d.Token()
	m.JWKS = new(JWKS)
	switch args := d.RemainingArgs(); {
	case len(args) > 1:
		return d.Err("jwks takes one URL, or a block with discovery")
	case len(args) == 1:
		m.JWKS.URL = args[0]
	}
	options, repeatable := m.options("jwks ")
	err := ParseBlock(d, "jwks", options, repeatable...)
	if err == nil {
		if err := checkHeaders(m.JWKS.Header, false); err != nil {
			return AtToken(place).Errf("jwks %w", err)
		}
	}
	if err != nil || hasPlaceholder(m.JWKS.Document()) || slices.ContainsFunc(m.JWKS.Algorithms, hasPlaceholder) { // placeholders are resolved at load, not here
		return err
	}
	if _, err := m.JWKS.Settings(); err != nil {
		return AtToken(place).Errf("jwks %w", err)
	}
	return nil
}

// parseSharedToken reads the line, and the block that it may have.
func (m *Messenger) parseSharedToken(d *caddyfile.Dispenser) error {
	if err := lineOption(func(args []string) error { return typeOf(&m.SharedToken).read(args) })(d); err != nil {
		return err
	}
	options, repeatable := m.options("shared_token ")
	return ParseBlock(d, "shared_token", options, repeatable...)
}
