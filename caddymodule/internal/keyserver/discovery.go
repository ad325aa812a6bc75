package keyserver

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

var (
	errNoMetadata  = NewFailure(Unusable, "the issuer answers with something other than OpenID Connect metadata, a JSON object with issuer and jwks_uri")
	errOtherIssuer = NewFailure(Refused, "the metadata are those of another issuer; configure discovery exactly as their issuer has it, including a slash at the end")
	errKeyURL      = NewFailure(Refused, "the metadata name a jwks_uri that is not an https URL")
)

// A Discovery fetches the key set of an issuer whose metadata name its URL (OpenID Connect Discovery 1.0). Both are fetched every
// time, by the rules of a [Client]: an issuer can move its keys, and nothing but its metadata says so.
//
// The metadata decide which keys are trusted, so that they must be those of exactly the configured issuer: otherwise a server that
// serves several issuers, or a copy of the metadata of another one, could choose the keys.
type Discovery struct {
	Issuer   string
	Metadata *Client

	// Public says whether a host that the metadata name must have a public address and port 443. nil allows any.
	Public func(hostname, host string) bool

	mu   sync.Mutex
	keys *Client // of the last jwks_uri; nil before the first
}

// Fetch is Client.Fetch for the key set. known are the validators of the set that the caller has; they are for the URL that it was
// fetched from, and of no use for another.
func (d *Discovery) Fetch(ctx context.Context, known Validators) (*Answer, error) {
	metadata, err := d.Metadata.Fetch(ctx, Validators{})
	if err != nil {
		return nil, err
	}
	found, err := d.read(metadata.Body)
	switch {
	case err != nil && metadata.Confidential:
		return nil, reasonOf(err)
	case err != nil:
		return nil, err
	}
	client, same := d.clientFor(found)
	if !same {
		known = Validators{}
	}
	answer, err := client.Fetch(ctx, known)
	switch {
	case !metadata.Confidential:
		return answer, err
	case err != nil:
		return nil, reasonOf(err) // it may have the host that the metadata name
	}
	return withoutQuotes(answer, nil)
}

// read returns the jwks_uri of the metadata.
func (d *Discovery) read(metadata []byte) (*url.URL, error) {
	var issuer, keys string
	var hasIssuer, hasKeys bool
	if strictjson.Object(metadata, func(name, value []byte) {
		switch string(name) {
		case "issuer":
			issuer, hasIssuer = strictjson.String(value)
		case "jwks_uri":
			keys, hasKeys = strictjson.String(value)
		}
	}) != nil || !hasIssuer || !hasKeys {
		return nil, errNoMetadata
	}
	if issuer != d.Issuer {
		return nil, fmt.Errorf("%w: they have %.200q", errOtherIssuer, issuer)
	}
	found, err := url.Parse(keys)
	if err == nil {
		err = CheckURL(keys)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %.200q %w", errKeyURL, Shown(keys), err)
	case found.Scheme != "https" && !strings.HasPrefix(d.Issuer, "http://"): // an issuer elsewhere does not make us ask this machine
		return nil, fmt.Errorf("%w: %.200q", errKeyURL, Shown(keys))
	}
	return found, nil
}

// clientFor returns the client for the key set at that URL, and whether it is the one of the last fetch.
func (d *Discovery) clientFor(found *url.URL) (*Client, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys != nil && d.keys.URL == found.String() {
		return d.keys, true
	}
	if d.keys != nil {
		d.keys.Close()
	}
	d.keys = d.Metadata.For(found.String(), d.Public != nil && d.Public(found.Hostname(), found.Host))
	return d.keys, false
}

// Close closes the idle connections of d.
func (d *Discovery) Close() {
	d.Metadata.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys != nil {
		d.keys.Close()
	}
}
