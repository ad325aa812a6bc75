package sigkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

const maxKeySetEntries = 100

// What an answer can be instead of a usable key set; see [keyserver.Reason].
var (
	ErrNoSet          = keyserver.FailureOf(keyserver.Unusable, cause.ServerOther)
	errTooManyEntries = keyserver.NewFailure(keyserver.Unusable, "the key set has more than 100 entries")
	errNoKey          = keyserver.NewFailure(keyserver.Unusable, "the key set does not have a key that can be used")
	ErrWebPage        = keyserver.FailureOf(keyserver.Unusable, cause.ServerHTML)

	// What people publish, or configure the URL of, in place of a key set.
	errCertificateMap = keyserver.FailureOf(keyserver.Unusable, cause.ServerCertificateMap)
	errDiscovery      = keyserver.FailureOf(keyserver.Unusable, cause.ServerDiscovery)
)

// Omitted is an entry of a key set that is not used.
type Omitted struct {
	Index  int    `json:"index"`         // in the set, from 0
	KeyID  string `json:"kid,omitempty"` // its kid, if it has one
	Reason string `json:"reason"`

	// Needs is the algorithm that would have to be accepted for the entry to be used; "" if that is not what is wrong.
	Needs string `json:"needs,omitempty"`
}

// ParseSet reads a JWK Set with keys for the accepted algorithms. An entry that cannot be used is left out with its reason, because
// key servers also publish keys for other purposes. A set without any usable key is an error, so that it never replaces one that
// has. With small, keys that cost more than usual ones are left out; see [Key.CheckSmall].
func ParseSet(body []byte, accepted Algorithms, small bool) (keys []*Key, omitted []Omitted, err error) {
	var list []json.RawMessage
	found, notASet := false, ErrNoSet // what the object is if it has no keys
	if err := strictjson.Lenient(body, func(name, value []byte) {
		if string(name) == "keys" {
			found = value[0] == '[' && json.Unmarshal(value, &list) == nil
		}
		switch text, ok := strictjson.Bytes(value); {
		case !ok || notASet == errDiscovery:
		case string(name) == "jwks_uri":
			notASet = errDiscovery
		case bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")):
			notASet = errCertificateMap
		}
	}); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			return nil, nil, ErrWebPage
		}
		return nil, nil, ErrNoSet
	}
	if !found {
		return nil, nil, notASet
	}
	if len(list) > maxKeySetEntries {
		return nil, nil, errTooManyEntries
	}
	s := &setReader{places: make(map[*Key]int)}
	for i, entry := range list {
		k, err := parseJWK(entry, accepted)
		if err == nil && small {
			err = k.CheckSmall()
		}
		if err != nil {
			kid, _ := strictjson.String(strictjson.Pointer{"kid"}.Find(entry))
			s.omit(i, kid, err, accepted)
			continue
		}
		s.keys = append(s.keys, k)
		s.places[k] = i
	}
	s.dropOtherAlgorithms()
	s.dropSharedIDs()
	slices.SortStableFunc(s.omitted, func(a, b Omitted) int { return a.Index - b.Index })
	if len(s.keys) == 0 {
		return nil, s.omitted, errNoKey
	}
	return s.keys, s.omitted, nil
}

// A setReader collects the keys of a set, and what is left out.
type setReader struct {
	keys    []*Key
	places  map[*Key]int // of the entries
	omitted []Omitted
}

func (s *setReader) omit(index int, kid string, err error, accepted Algorithms) {
	o := Omitted{Index: index, KeyID: kid, Reason: err.Error()}
	if unfit := new(unfitError); errors.As(err, &unfit) {
		o.Needs = unfit.needs.String()
		o.Reason += "; to use it, write: algorithms " + strings.Join((accepted|AlgorithmsOf(unfit.needs)).Names(), " ")
	}
	s.omitted = append(s.omitted, o)
}

// drop leaves out the keys for which bad is true.
func (s *setReader) drop(reason string, bad func(*Key) bool) {
	s.keys = slices.DeleteFunc(s.keys, func(k *Key) bool {
		if !bad(k) {
			return false
		}
		s.omitted = append(s.omitted, Omitted{Index: s.places[k], KeyID: k.kid, Reason: reason})
		return true
	})
}

// dropOtherAlgorithms leaves out a key that is listed with several algorithms, because a key has exactly one.
func (s *setReader) dropOtherAlgorithms() {
	first := make(map[[sha256.Size]byte]Algorithm)
	several := make(map[[sha256.Size]byte]bool)
	for _, k := range s.keys {
		if alg, found := first[k.fingerprint]; found && alg != k.alg {
			several[k.fingerprint] = true
		}
		first[k.fingerprint] = k.alg
	}
	s.drop("is listed with several algorithms, and a key has exactly one", func(k *Key) bool { return several[k.fingerprint] })
}

// dropSharedIDs leaves out keys that differ and share one kid: it is undefined which of them the kid means, and someone who can
// add an entry to the set must not be able to replace another key. A key that is listed twice is one key.
func (s *setReader) dropSharedIDs() {
	byKID := make(map[string]*Key)
	ambiguous := make(map[string]bool)
	s.keys = slices.DeleteFunc(s.keys, func(k *Key) bool {
		other := byKID[k.kid]
		if k.kid == "" || other == nil {
			byKID[k.kid] = k
			return false
		}
		if other.Same(k) {
			return true
		}
		ambiguous[k.kid] = true
		return false
	})
	s.drop("has the kid of another key of the set", func(k *Key) bool { return k.kid != "" && ambiguous[k.kid] })
}

// parseOnlyKey reads a set that was given in place of one key. It must be certain which key is meant: exactly one of its entries
// can be used, and none is a secret. Errors continue a sentence that begins with the set.
func parseOnlyKey(members map[string][]byte, accepted Algorithms) (*Key, error) {
	if members["kty"] != nil {
		return nil, errors.New("and a JWK at once; give one of the two")
	}
	var list []json.RawMessage
	if json.Unmarshal(members["keys"], &list) != nil || len(list) > maxKeySetEntries {
		return nil, errors.New("whose keys are not a list, or too many; give one of its keys")
	}
	var only *Key
	why := errors.New("has no entry")
	for _, entry := range list {
		k, err := parseJWK(entry, accepted)
		switch {
		case err == errPrivateJWK || err == errSecretJWK:
			return nil, fmt.Errorf("with an entry that %w", err)
		case err != nil:
			why = err
		case only != nil:
			return nil, errors.New("with more than one key that can be used; give each key a public_key line of its own, or the URL of the set with jwks")
		default:
			only = k
		}
	}
	if only == nil {
		return nil, fmt.Errorf("without a key that can be used: the last entry %w", why)
	}
	return only, nil
}
