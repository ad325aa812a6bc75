package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// newStored makes the messenger that a record describes. Its owner may be somebody who may not read the gateway's files
// and environment, nor explore its network.
func (l *live) newStored(name string, r *record) (*messenger, error) {
	if r.Settings == nil {
		return nil, errDamaged
	}
	m := &messenger{Messenger: r.Settings.copySettings(), stored: true}
	if err := m.prepare(name, l.log()); err != nil {
		return nil, err
	}
	m.revoked.Set(r.rules(time.Now()))
	for _, warning := range m.costWarnings() {
		m.logger.Warn(warning)
	}
	m.setOrigin(session.Origin{Created: r.Created, Closings: r.Closings})
	switch {
	case m.JWKS != nil:
		settings, err := m.JWKS.storedSettings(l.isInternal)
		if err != nil {
			return nil, fmt.Errorf("jwks %w", err)
		}
		if err := m.takeEngine(settings, l); err != nil {
			return nil, err
		}
		m.jwks.Start()
		return m, nil
	case m.isGenerated():
		keys, err := r.keys(l.usesOf(name, kindStored))
		if err != nil {
			return nil, err
		}
		m.keys.current = keys
		m.trust(keys)
		return m, nil
	}
	return m, m.loadKeys()
}

// copySettings returns a messenger with the settings of m and nothing else of it.
func (m *Messenger) copySettings() *Messenger {
	return &Messenger{
		IdentityKey: m.IdentityKey, PublicKey: m.PublicKey, JWKS: m.JWKS, SharedToken: m.SharedToken,
		Issuer: m.Issuer, Audience: m.Audience, RequireClaims: m.RequireClaims,
		ClockSkew: m.ClockSkew, MaxLifetime: m.MaxLifetime, AllowedOrigin: m.AllowedOrigin, Mode: m.Mode, FailLimit: m.FailLimit, MaxSession: m.MaxSession,
	}
}

// checkStored refuses settings that a stored messenger may not have, and those that would not load.
func (m *Messenger) checkStored(isInternal func(hostname, host string) bool) error {
	if err := m.checkCost(); err != nil {
		return err
	}
	if err := m.checkSettings(); err != nil {
		return err
	}
	for _, entry := range m.AllowedOrigin {
		if _, err := parseOrigin(entry); err != nil {
			return fmt.Errorf("allowed_origin %q %w", entry, err)
		}
	}
	switch {
	case m.JWKS != nil:
		if _, err := m.JWKS.storedSettings(isInternal); err != nil {
			return fmt.Errorf("jwks %w", err)
		}
	case m.SharedToken != nil:
		if m.SharedToken.Token != "" || m.SharedToken.Encoding != "" {
			return errors.New("shared_token of a stored messenger is generated, and has no members: write {}")
		}
	default:
		return m.checkStoredKeys()
	}
	return nil
}

// checkStoredKeys takes keys as they are, and no placeholder for one.
func (m *Messenger) checkStoredKeys() error {
	keys := make([]*authn.Key, len(m.PublicKey))
	for i, k := range m.PublicKey {
		if _, ok := parseReference(k.Key); ok {
			return fmt.Errorf("public_key number %d is a placeholder; a stored messenger holds the key itself", i+1)
		}
		var err error
		if keys[i], err = authn.ParsePublicKey([]byte(k.Key), k.KeyID); err != nil {
			return fmt.Errorf("public_key number %d %w", i+1, err)
		}
		if err = keys[i].CheckSmall(); err != nil {
			return fmt.Errorf("public_key number %d %w", i+1, err)
		}
	}
	if _, err := authn.NewKeySet(keys...); err != nil {
		return fmt.Errorf("public_key: %w", err)
	}
	return nil
}

// storedSettings are the engine's settings for a URL that a site owner typed: https to port 443 of a public address,
// unless the operator has listed the host.
func (j *JWKS) storedSettings(isInternal func(hostname, host string) bool) (authn.JWKSSettings, error) {
	if strings.ContainsAny(j.URL, "{}") {
		return authn.JWKSSettings{}, errors.New("has a placeholder in its URL; a stored messenger has the URL itself")
	}
	settings, err := j.settings()
	if err != nil {
		return settings, err
	}
	settings.SmallKeys = true
	u, err := url.Parse(j.URL)
	if err != nil {
		return settings, err
	}
	if isInternal(u.Hostname(), u.Host) {
		return settings, nil
	}
	settings.Public = true
	if u.Scheme != "https" || u.Port() != "" && u.Port() != "443" {
		return settings, errors.New("is not https on port 443; the operator can list the host in jwks_internal_hosts")
	}
	return settings, nil
}

// messenger returns the messenger of that name, configured or stored, or says why there is none.
func (a *registry) messenger(ctx context.Context, name string) (*messenger, *authn.Rejection) {
	if m := a.Messengers[name]; m != nil {
		return m, nil
	}
	e, err := a.live.find(ctx, name)
	if err != nil {
		if c := a.refusals.Check(zap.WarnLevel, "a stored messenger cannot be read"); c != nil {
			c.Write(zap.Error(err))
		}
		return nil, &authn.Rejection{Code: authn.KeysUnavailable, Reason: "the store cannot be asked for this messenger right now"}
	}
	if e.messenger == nil {
		return nil, &authn.Rejection{Code: authn.MessengerUnknown, Reason: "no messenger of this name is configured or stored"}
	}
	return e.messenger, nil
}
