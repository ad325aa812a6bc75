package sigkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

const maxKeySetEntries = 100

// What an answer can be instead of a usable key set; see [keyserver.Reason].
var (
	ErrNoSet          = keyserver.FailureOf(keyserver.Unusable, cause.ServerOther)
	ErrTooManyEntries = keyserver.NewFailure(keyserver.Unusable, "the key set has more than 100 entries")
	ErrNoKey          = keyserver.NewFailure(keyserver.Unusable, "the key set does not have a key that can be used")
)

// A document is what people publish, or configure the URL of, in place of a key set.
type document int

const (
	notASet document = iota
	certificateMap
	discovery
)

var notSets = map[document]error{
	notASet:        ErrNoSet,
	certificateMap: keyserver.FailureOf(keyserver.Unusable, cause.ServerCertificateMap),
	discovery:      keyserver.FailureOf(keyserver.Unusable, cause.ServerDiscovery),
}

// ErrWebPage is for an answer that is HTML.
var ErrWebPage = keyserver.FailureOf(keyserver.Unusable, cause.ServerHTML)

// documentOf returns what a member of an object says about the whole.
func documentOf(name, value []byte) document {
	switch text, ok := strictjson.Bytes(value); {
	case !ok:
		return notASet
	case string(name) == "jwks_uri":
		return discovery
	case bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")):
		return certificateMap
	}
	return notASet
}

// Omitted is an entry of a key set that is not used.
type Omitted struct {
	Index  int    `json:"index"`         // in the set, from 0
	KeyID  string `json:"kid,omitempty"` // its kid, if it has one
	Reason string `json:"reason"`
}

// ParseSet reads a JWK Set. An entry that cannot be used is left out with its reason, because key servers also publish keys for
// other purposes. A set without any usable key is an error, so that it never replaces one that has. With small, keys that cost more
// than usual ones are left out; see [Key.CheckSmall].
func ParseSet(body []byte, small bool) (keys []*Key, omitted []Omitted, err error) {
	var list []json.RawMessage
	found, kind := false, notASet
	if err := strictjson.Lenient(body, func(name, value []byte) {
		if string(name) == "keys" {
			found = value[0] == '[' && json.Unmarshal(value, &list) == nil
		}
		kind = max(kind, documentOf(name, value))
	}); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			return nil, nil, ErrWebPage
		}
		return nil, nil, ErrNoSet
	}
	if !found {
		return nil, nil, notSets[kind]
	}
	if len(list) > maxKeySetEntries {
		return nil, nil, ErrTooManyEntries
	}
	for i, entry := range list {
		k, err := parseJWK(entry)
		if err == nil && small {
			err = k.CheckSmall()
		}
		if err != nil {
			omitted = append(omitted, Omitted{Index: i, KeyID: entryKID(entry), Reason: err.Error()})
			continue
		}
		keys = append(keys, k)
	}
	keys, omitted = dropAmbiguous(list, keys, omitted)
	if len(keys) == 0 {
		return nil, omitted, ErrNoKey
	}
	return keys, omitted, nil
}

// parseOnlyKey reads a set that was given in place of one key. It must be certain which key is meant: exactly one of its entries
// can be used, and none is a secret. Errors continue a sentence that begins with the set.
func parseOnlyKey(members map[string][]byte) (*Key, error) {
	if members["kty"] != nil {
		return nil, errors.New("and a JWK at once; give one of the two")
	}
	var list []json.RawMessage
	if json.Unmarshal(members["keys"], &list) != nil || len(list) > maxKeySetEntries {
		return nil, errors.New("whose keys are not a list, or too many; give one of its keys")
	}
	var only *Key
	why := "has no entry"
	for _, entry := range list {
		k, err := parseJWK(entry)
		switch {
		case err == errPrivateJWK || err == errSecretJWK:
			return nil, fmt.Errorf("with an entry that %w", err)
		case err != nil:
			why = err.Error()
		case only != nil:
			return nil, errors.New("with more than one key that can be used; give each key a public_key line of its own, or the URL of the set with jwks")
		default:
			only = k
		}
	}
	if only == nil {
		return nil, errors.New("without a key that can be used: the last entry " + why)
	}
	return only, nil
}

// dropAmbiguous leaves out keys that differ and share one kid: it is undefined which of them the kid means, and someone who can
// add an entry to the set must not be able to replace another key. A key that is listed twice is one key.
func dropAmbiguous(list []json.RawMessage, keys []*Key, omitted []Omitted) ([]*Key, []Omitted) {
	byKID := make(map[string]*Key)
	ambiguous := make(map[string]bool)
	var once []*Key
	for _, k := range keys {
		other := byKID[k.kid]
		switch {
		case k.kid == "" || other == nil:
			byKID[k.kid] = k
			once = append(once, k)
		case other.fingerprint != k.fingerprint:
			ambiguous[k.kid] = true
		}
	}
	if len(ambiguous) == 0 {
		return once, omitted
	}
	var kept []*Key
	for _, k := range once {
		if !ambiguous[k.kid] {
			kept = append(kept, k)
		}
	}
	for i, entry := range list {
		if kid := entryKID(entry); ambiguous[kid] {
			if _, err := parseJWK(entry); err == nil {
				omitted = append(omitted, Omitted{Index: i, KeyID: kid, Reason: "has the kid of another key of the set"})
			}
		}
	}
	return kept, omitted
}

// entryKID returns the kid of an entry, or "" if it does not have one or is not an object.
func entryKID(entry []byte) (kid string) {
	_ = strictjson.Lenient(entry, func(name, value []byte) {
		if string(name) == "kid" {
			kid, _ = strictjson.String(value)
		}
	})
	return kid
}
