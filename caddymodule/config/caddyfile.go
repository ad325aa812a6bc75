package config

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// ParseMessenger reads the block of one messenger.
func ParseMessenger(d *caddyfile.Dispenser, name string) (*Messenger, error) {
	place := d.Token()
	m := new(Messenger)
	err := ParseBlock(d, "messenger "+name, map[string]OptionParser{
		"identity_key":   StringOption(&m.IdentityKey),
		"public_key":     m.parsePublicKey,
		"jwks":           m.parseJWKS,
		"shared_token":   m.parseSharedToken,
		"issuer":         ListOption(&m.Issuer),
		"audience":       ListOption(&m.Audience),
		"require_claims": ListOption(&m.RequireClaims),
		"allowed_origin": m.parseAllowedOrigin,
		"clock_skew":     DurationOption(&m.ClockSkew),
		"max_lifetime":   func(d *caddyfile.Dispenser) error { return parseDuration(d, &m.MaxLifetime) },
		"max_session":    DurationOption(&m.MaxSession),
		"mode":           func(d *caddyfile.Dispenser) error { return ParseMode(d, &m.Mode) },
		"fail_limit":     m.parseFailLimit,
	}, "public_key", "issuer", "audience", "require_claims", "allowed_origin")
	if err != nil {
		return nil, err
	}
	if err := m.CheckSettings(); err != nil {
		return nil, AtToken(place).Errf("messenger %s: %w", name, err)
	}
	return m, nil
}

func (m *Messenger) parsePublicKey(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	k := PublicKey{}
	switch {
	case len(args) == 1:
		k.Key = args[0]
	case len(args) == 3 && args[1] == "kid" && args[2] != "":
		k.Key, k.KeyID = args[0], args[2]
	default:
		return d.Err("public_key takes one key and perhaps its kid: public_key {file./path/to/key.pem} [kid <id>]")
	}
	if _, ok := ParseReference(k.Key); !ok {
		if _, err := authn.ParsePublicKey([]byte(k.Key), k.KeyID); err != nil {
			return d.Errf("public_key %w", err)
		}
	}
	m.PublicKey = append(m.PublicKey, k)
	return nil
}

func (m *Messenger) parseJWKS(d *caddyfile.Dispenser) error {
	place := d.Token()
	m.JWKS = new(JWKS)
	if err := StringOption(&m.JWKS.URL)(d); err != nil {
		return err
	}
	err := ParseBlock(d, "jwks", map[string]OptionParser{
		"refresh_interval": DurationOption(&m.JWKS.RefreshInterval),
		"stale_if_error":   DurationOption(&m.JWKS.StaleIfError),
		"timeout":          DurationOption(&m.JWKS.Timeout),
	})
	if err != nil || strings.Contains(m.JWKS.URL, "{") { // placeholders are resolved at load, not here
		return err
	}
	if _, err := m.JWKS.Settings(); err != nil {
		return AtToken(place).Errf("jwks %w", err)
	}
	return nil
}

// parseSharedToken never quotes an argument: it may be the secret.
func (m *Messenger) parseSharedToken(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		m.SharedToken = new(SharedToken)
		return nil
	}
	if len(args) > 2 {
		return d.Err("shared_token takes nothing, for a token that the gateway generates, or a placeholder and perhaps an encoding: shared_token {env.NAME}|{file./path} [raw|base64|base64url|hex]")
	}
	if _, ok := ParseReference(args[0]); !ok {
		return d.WrapErr(ErrLiteralSecret)
	}
	m.SharedToken = &SharedToken{Token: args[0]}
	if len(args) == 2 {
		m.SharedToken.Encoding = authn.Encoding(args[1])
		if !m.SharedToken.Encoding.Known() {
			return d.Err("shared_token has an encoding that is none of raw, base64, base64url, hex")
		}
	}
	return nil
}

func (m *Messenger) parseAllowedOrigin(d *caddyfile.Dispenser) error {
	first := len(m.AllowedOrigin)
	if err := ListOption(&m.AllowedOrigin)(d); err != nil {
		return err
	}
	for _, entry := range m.AllowedOrigin[first:] {
		if _, err := ParseOrigin(entry); err != nil {
			return d.Errf("allowed_origin %q %w", entry, err)
		}
	}
	return nil
}
