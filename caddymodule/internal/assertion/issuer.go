package assertion

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/recent"
)

// maxRemembered bounds what an Issuer remembers, in bytes.
const maxRemembered = 16 << 20

// ErrNoKey is the error while there is no key to sign with.
var ErrNoKey = errors.New("the key that signs assertions cannot be read from the store, or made")

// An Issuer makes the assertions of one configuration. It is safe for concurrent use.
type Issuer struct {
	keys     *Keys
	alg      string
	issuer   string
	audience any // a text, or a list of several
	lifetime time.Duration
	names    []string // of the claims in Subject.Texts
	made     *recent.Map[subject, *assertion]
}

// NewIssuer makes an issuer. names are the claims whose texts are in Subject.Texts.
func NewIssuer(keys *Keys, alg, issuer string, audience []string, lifetime time.Duration, names []string) *Issuer {
	i := &Issuer{keys: keys, alg: alg, issuer: issuer, audience: audience, lifetime: lifetime, names: names,
		made: recent.New[subject, *assertion](maxRemembered)}
	if len(audience) == 1 {
		i.audience = audience[0]
	}
	return i
}

// A Subject is what an assertion says about a contact.
type Subject struct {
	Messenger, Identity string
	Object              string    // further claims, a JSON object; may be empty
	Texts               []string  // further claims as texts, those of the issuer's names; "" for a claim that the token does not have
	Expires, Until      time.Time // of the contact's token; see Contact in package authn
}

// A subject is the key under which an assertion is remembered: requests with equal subjects share one assertion.
type subject struct{ messenger, identity, object, texts string }

type assertion struct {
	text      string
	made      time.Time
	exp       int64
	shortened bool // it ends with the token
}

// Assert returns an assertion about s. An assertion is used again for half of its lifetime, and does not outlive the contact's token.
// The caller has just checked that the token is valid and not revoked.
func (i *Issuer) Assert(s *Subject, now time.Time) (string, error) {
	key := subject{s.Messenger, s.Identity, s.Object, joined(s.Texts)}
	end := endOf(s, now)
	usable := func(a *assertion) bool {
		age := now.Sub(a.made)
		return age >= 0 && now.Unix() < a.exp && (end == 0 || a.exp <= end) && (age < i.lifetime/2 || a.shortened && a.exp == end)
	}
	if a, found := i.made.Get(s.Identity, key); found && usable(a) {
		return a.text, nil
	}
	a, err := i.sign(s, now, end)
	if err != nil {
		return "", err
	}
	key = subject{s.Messenger, strings.Clone(s.Identity), strings.Clone(s.Object), key.texts}
	return i.made.Add(s.Identity, key, a, len(a.text)+len(key.identity)+len(key.object)+len(key.texts)+200, usable).text, nil
}

// endOf returns when the token ends, in Unix seconds; 0 if it does not. In the time of the clock skew after its exp, that is the
// instant at which the gateway refuses it.
func endOf(s *Subject, now time.Time) int64 {
	end := s.Until
	if s.Expires.After(now) && (end.IsZero() || s.Expires.Before(end)) {
		end = s.Expires
	}
	if end.IsZero() {
		return 0
	}
	return max(end.Unix(), now.Unix()) // an assertion in the last second of a token expires at once
}

func (i *Issuer) sign(s *Subject, now time.Time, end int64) (*assertion, error) {
	key := i.keys.signer(i.alg, now)
	if key == nil {
		return nil, ErrNoKey
	}
	a := &assertion{made: now, exp: now.Add(i.lifetime).Unix()}
	if end != 0 && end < a.exp {
		a.exp, a.shortened = end, true
	}
	payload, err := json.Marshal(struct {
		Issuer    string          `json:"iss"`
		Audience  any             `json:"aud"`
		Subject   string          `json:"sub"`
		Messenger string          `json:"messenger"`
		Issued    int64           `json:"iat"`
		Expires   int64           `json:"exp"`
		Claims    json.RawMessage `json:"claims,omitempty"`
	}{i.issuer, i.audience, s.Identity, s.Messenger, now.Unix(), a.exp, i.claims(s)})
	if err != nil {
		return nil, err
	}
	a.text, err = key.sign(payload)
	return a, err
}

// claims returns the further claims as one object. They are in a member of their own, because the owners of messengers choose their
// names, and could choose the name of one of the gateway's claims.
func (i *Issuer) claims(s *Subject) json.RawMessage {
	object := strings.TrimSuffix(s.Object, "}")
	taken := make(map[string]json.RawMessage)
	_ = json.Unmarshal([]byte(s.Object), &taken)
	for n, text := range s.Texts {
		if _, found := taken[i.names[n]]; text == "" || found {
			continue
		}
		name, _ := json.Marshal(i.names[n]) // cannot fail for a string
		value, _ := json.Marshal(text)
		separator := ","
		if object == "" {
			separator = "{"
		}
		object += separator + string(name) + ":" + string(value)
	}
	if object == "" {
		return nil
	}
	return json.RawMessage(object + "}")
}

// joined returns one text for a list of texts. Different lists have different texts.
func joined(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	var all []byte
	for _, text := range texts {
		all = binary.AppendUvarint(all, uint64(len(text)))
		all = append(all, text...)
	}
	return string(all)
}
