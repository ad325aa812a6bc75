package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
)

// JWKS names the URL at which the site publishes its public keys, or the issuer whose metadata name it.
type JWKS struct {
	// The URL of the JWK Set: https, or http on a loopback address. Placeholders are resolved when the configuration is
	// loaded. Required, unless discovery is set.
	URL string `json:"url,omitempty"`

	// The issuer, in place of the URL: its metadata at /.well-known/openid-configuration name the URL of the keys (OpenID Connect
	// Discovery 1.0), and must have exactly this issuer. Tokens must have it as "iss". Default: none.
	Discovery string `json:"discovery,omitempty"`

	// The algorithms of which tokens may have one. Only keys for these are used: an entry of the set that has an "alg" of its own is
	// used with that, any other with the one of these that its type fits, and is left out if several do. Default: RS256.
	Algorithms []string `json:"algorithms,omitempty"`

	// How long a key set is used before it is fetched again if the key server sends no Cache-Control or Expires; 1m to 1h. A
	// lifetime from the server is limited to the same bounds. Default: 10m.
	RefreshInterval *caddy.Duration `json:"refresh_interval,omitempty"`

	// How long the last key set is used while the key server cannot be reached, counted from the last successful fetch.
	// Afterwards requests are answered with keys_unavailable. 0 uses a set no longer than its lifetime. Default: 24h.
	StaleIfError *caddy.Duration `json:"stale_if_error,omitempty"`

	// How long one fetch may take, at most 30s. Default: 5s.
	Timeout *caddy.Duration `json:"timeout,omitempty"`

	// The certificates of the authorities that may sign the key server's certificate, and no others: a file in PEM with one or
	// more, the PEM itself, or a placeholder {file./path} or {env.NAME}. A file is read again for every fetch. Default: the
	// authorities of the system.
	CA Roots `json:"ca,omitempty"`

	// Headers that the key server wants to see, such as X-Api-Key. They are sent to the host of the URL alone. Default: none.
	Header []RequestHeader `json:"header,omitempty"`
}

func (j *JWKS) copy() *JWKS {
	if j == nil {
		return nil
	}
	c := *j
	c.Header = slices.Clone(j.Header)
	return &c
}

// metadataPath is where an issuer publishes its metadata (OpenID Connect Discovery 1.0 section 4).
const metadataPath = "/.well-known/openid-configuration"

// Document returns the URL that is fetched first: that of the key set, or of the issuer's metadata.
func (j *JWKS) Document() string {
	if j.Discovery == "" {
		return j.URL
	}
	return strings.TrimSuffix(j.Discovery, "/") + metadataPath
}

// maxFetchTimeout bounds the option timeout of a JWKS.
const maxFetchTimeout = 30 * time.Second

// Settings checks j and returns what the engine needs, for a messenger of the configuration.
func (j *JWKS) Settings() (authn.JWKSSettings, error) {
	if err := checkHeaders(j.Header, false); err != nil {
		return authn.JWKSSettings{}, err
	}
	return j.settings()
}

func (j *JWKS) settings() (authn.JWKSSettings, error) {
	s := authn.JWKSSettings{
		RefreshInterval: DurationOr(j.RefreshInterval, authn.DefaultRefreshInterval),
		StaleIfError:    DurationOr(j.StaleIfError, authn.DefaultStaleIfError),
		Timeout:         DurationOr(j.Timeout, keyserver.DefaultTimeout),
	}
	var err error
	if s.Algorithms, err = readAlgorithms(j.Algorithms); err != nil {
		return s, fmt.Errorf("algorithms %w", err)
	}
	if s.RefreshInterval < authn.MinRefreshInterval || s.RefreshInterval > authn.MaxRefreshInterval {
		return s, fmt.Errorf("refresh_interval %s is not between %s and %s", DurationText(s.RefreshInterval), DurationText(authn.MinRefreshInterval), DurationText(authn.MaxRefreshInterval))
	}
	if s.StaleIfError < 0 {
		return s, errors.New("stale_if_error is negative; give a duration such as 24h, or 0 to trust a set no longer than its lifetime")
	}
	if s.Timeout <= 0 || s.Timeout > maxFetchTimeout {
		return s, fmt.Errorf("timeout %s is not above 0s and at most %s", DurationText(s.Timeout), DurationText(maxFetchTimeout))
	}
	switch {
	case j.URL != "" && j.Discovery != "":
		return s, errors.New("has both a URL and discovery; keep the one or the other")
	case j.URL == "" && j.Discovery == "":
		return s, errors.New("has neither a URL nor discovery; write the URL of the key set, or the issuer: jwks { discovery https://login.example.com }")
	}
	s.URL, s.Issuer = j.Document(), j.Discovery
	if j.Discovery == "" {
		if err := keyserver.CheckURL(s.URL); err != nil {
			return s, fmt.Errorf("%s%w", quoted(j.URL), err)
		}
		return s, nil
	}
	if err := keyserver.CheckURL(s.Issuer); err != nil {
		return s, fmt.Errorf("discovery %s%w", quoted(j.Discovery), err)
	}
	if strings.Contains(s.Issuer, "?") {
		return s, errors.New("discovery has a query (?…), which an issuer does not have")
	}
	if issuer, _, found := strings.Cut(s.Issuer, "/.well-known/"); found {
		return s, fmt.Errorf("discovery %snames the metadata; write the issuer alone: discovery %s", quoted(j.Discovery), issuer)
	}
	return s, nil
}

// quoted quotes a URL in front of what is wrong with it.
func quoted(text string) string {
	if _, err := url.Parse(text); err == nil {
		return strconv.Quote(keyserver.Shown(text)) + " "
	}
	return ""
}

// DurationOr returns d, or fallback if d is nil.
func DurationOr(d *caddy.Duration, fallback time.Duration) time.Duration {
	if d == nil {
		return fallback
	}
	return time.Duration(*d)
}

// StoredSettings are the engine's settings for a URL that a site owner typed: https to port 443 of a public address,
// unless the operator has listed the host.
func (j *JWKS) StoredSettings(isInternal func(hostname, host string) bool) (authn.JWKSSettings, error) {
	if strings.ContainsAny(j.URL+j.Discovery, "{}") {
		return authn.JWKSSettings{}, errors.New("has a placeholder in its URL; a stored messenger has the URL itself")
	}
	if err := j.CA.checkStored(); err != nil {
		return authn.JWKSSettings{}, err
	}
	if err := checkHeaders(j.Header, true); err != nil {
		return authn.JWKSSettings{}, err
	}
	settings, err := j.settings()
	if err != nil {
		return settings, err
	}
	settings.SmallKeys = true
	u, err := url.Parse(settings.URL)
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
