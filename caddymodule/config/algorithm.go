package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// readAlgorithm returns the algorithm with this name, which has to be one of allowed, or fallback if name is "". Errors continue the
// option's name.
func readAlgorithm(name string, allowed sigkey.Algorithms, fallback sigkey.Algorithm) (sigkey.Algorithm, error) {
	if name == "" {
		return fallback, nil
	}
	alg, known := sigkey.ParseAlgorithm(name)
	switch {
	case !known:
		return 0, fmt.Errorf("%q is not an algorithm that is known here; name %s", name, allowed.Text())
	case !allowed.Has(alg):
		return 0, fmt.Errorf("%q cannot be used here; name %s", name, allowed.Text())
	}
	return alg, nil
}

// readAlgorithms returns the algorithms of public keys with these names, and the default for none.
func readAlgorithms(names []string) (sigkey.Algorithms, error) {
	if len(names) == 0 {
		return authn.DefaultAlgorithms, nil
	}
	var set sigkey.Algorithms
	for _, name := range names {
		alg, err := readAlgorithm(name, sigkey.Asymmetric, 0)
		switch {
		case err != nil:
			return 0, err
		case alg == 0:
			return 0, fmt.Errorf("has an empty value; name %s", sigkey.Asymmetric.Text())
		case set.Has(alg):
			return 0, fmt.Errorf("names %q twice; remove one", alg)
		}
		set |= sigkey.AlgorithmsOf(alg)
	}
	return set, nil
}

func checkAlgorithms(names []string) error {
	_, err := readAlgorithms(names)
	return err
}

func checkSharedAlgorithm(names []string) error {
	for _, name := range names {
		if _, err := readAlgorithm(name, sigkey.Symmetric, 0); err != nil {
			return err
		}
	}
	return nil
}

// Parse makes the key from its text: the configured value, or the content that its placeholder names.
func (k PublicKey) Parse(text []byte) (*sigkey.Key, error) {
	alg, err := readAlgorithm(k.Alg, sigkey.Asymmetric, sigkey.RS256)
	if err != nil {
		return nil, fmt.Errorf("has an alg that cannot be used: %w", err)
	}
	return sigkey.ParsePublic(text, k.KeyID, sigkey.AlgorithmsOf(alg))
}

// Algorithm returns the algorithm of the secret.
func (t *SharedToken) Algorithm() (sigkey.Algorithm, error) {
	return readAlgorithm(t.Alg, sigkey.Symmetric, sigkey.HS256)
}

// SigningAlgorithms are those of which a token has to have one. They are in the configuration, and do not depend on the keys.
func (m *Messenger) SigningAlgorithms() sigkey.Algorithms {
	set, _ := m.readAlgorithms() // CheckSettings has checked it
	return set
}

// readAlgorithms returns the algorithms of the method, and refuses names that cannot be among them.
func (m *Messenger) readAlgorithms() (set sigkey.Algorithms, err error) {
	switch {
	case m.JWKS != nil:
		if set, err = readAlgorithms(m.JWKS.Algorithms); err != nil {
			return 0, fmt.Errorf("jwks algorithms %w", err)
		}
	case m.SharedToken != nil:
		alg, err := m.SharedToken.Algorithm()
		if err != nil {
			return 0, fmt.Errorf("shared_token alg %w", err)
		}
		set = sigkey.AlgorithmsOf(alg)
	}
	for i, k := range m.PublicKey {
		alg, err := readAlgorithm(k.Alg, sigkey.Asymmetric, sigkey.RS256)
		if err != nil {
			return 0, fmt.Errorf("public_key number %d has an alg that cannot be used: %w", i+1, err)
		}
		set |= sigkey.AlgorithmsOf(alg)
	}
	return set, nil
}

// maxTokenType is the longest name of a media type (RFC 6838 section 4.2).
const maxTokenType = 127

// otherPurposes are types of tokens that login servers sign with the same keys for other purposes than a contact's login.
var otherPurposes = []string{"logout+jwt", "dpop+jwt", "secevent+jwt", "token-introspection+jwt", "oauth-authz-req+jwt"}

// checkTokenType returns an error for a text that cannot be the type of a contact's token. The error continues the option's name.
func checkTokenType(values []string) error {
	const usual = "name one such as at+jwt or JWT"
	for _, value := range values {
		typ := authn.TypeOf(value)
		switch {
		case len(value) > maxTokenType, strings.Trim(typ, "abcdefghijklmnopqrstuvwxyz0123456789!#$&-^_.+") != "", typ == "":
			return errors.New("is not a type; " + usual)
		case slices.Contains(otherPurposes, typ):
			return fmt.Errorf("%q is a type of tokens for another purpose, which a contact does not show; %s", value, usual)
		}
	}
	return nil
}
