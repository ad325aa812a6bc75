package sigkey

import (
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512
	"strings"
)

// An Algorithm is a signature algorithm of JWS (RFC 7518 section 3.1, RFC 8037 section 3.1). The zero value is none, which no key
// has and no token can name.
type Algorithm uint8

// The algorithms, in the order in which people read them.
const (
	RS256 Algorithm = iota + 1
	RS384
	RS512
	PS256
	PS384
	PS512
	ES256
	ES384
	ES512
	EdDSA
	HS256
	HS384
	HS512
)

// A scheme is what an algorithm does with a key.
type scheme uint8

const (
	pkcs1 scheme = iota + 1
	pss
	ecdsaPlain // r and s behind each other, and not DER
	eddsa
	mac
)

// algorithms are the facts about each. An algorithm of elliptic curves has exactly one curve (RFC 7518 section 3.4).
var algorithms = [...]struct {
	name   string
	scheme scheme
	hash   crypto.Hash
	curve  string
}{
	RS256: {"RS256", pkcs1, crypto.SHA256, ""},
	RS384: {"RS384", pkcs1, crypto.SHA384, ""},
	RS512: {"RS512", pkcs1, crypto.SHA512, ""},
	PS256: {"PS256", pss, crypto.SHA256, ""},
	PS384: {"PS384", pss, crypto.SHA384, ""},
	PS512: {"PS512", pss, crypto.SHA512, ""},
	ES256: {"ES256", ecdsaPlain, crypto.SHA256, "P-256"},
	ES384: {"ES384", ecdsaPlain, crypto.SHA384, "P-384"},
	ES512: {"ES512", ecdsaPlain, crypto.SHA512, "P-521"},
	EdDSA: {"EdDSA", eddsa, 0, "Ed25519"},
	HS256: {"HS256", mac, crypto.SHA256, ""},
	HS384: {"HS384", mac, crypto.SHA384, ""},
	HS512: {"HS512", mac, crypto.SHA512, ""},
}

// ParseAlgorithm returns the algorithm with this name. RFC 9864 calls EdDSA with an Ed25519 key, the only kind that is accepted,
// Ed25519; both names mean the same.
func ParseAlgorithm(name string) (Algorithm, bool) {
	if name == "Ed25519" {
		return EdDSA, true
	}
	for a := RS256; a <= HS512; a++ {
		if algorithms[a].name == name {
			return a, true
		}
	}
	return 0, false
}

func (a Algorithm) String() string { return algorithms[a].name }

// IsSymmetric reports whether the algorithm verifies with a secret.
func (a Algorithm) IsSymmetric() bool { return algorithms[a].scheme == mac }

// Hash returns the hash of the algorithm. EdDSA has none of its own choice.
func (a Algorithm) Hash() crypto.Hash { return algorithms[a].hash }

// MinSecret returns how many bytes a secret needs for the algorithm (RFC 7518 section 3.2): as many as its hash has.
func (a Algorithm) MinSecret() int { return algorithms[a].hash.Size() }

// Algorithms is a set of algorithms.
type Algorithms uint16

// AlgorithmsOf returns the set of these algorithms.
func AlgorithmsOf(list ...Algorithm) (set Algorithms) {
	for _, a := range list {
		set |= 1 << a
	}
	return set
}

// Sets of algorithms.
var (
	Asymmetric = AlgorithmsOf(RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA)
	Symmetric  = AlgorithmsOf(HS256, HS384, HS512)

	// Natural has one algorithm for every type of public key: the one that such a key is for if nothing else is configured.
	Natural = AlgorithmsOf(RS256, ES256, ES384, ES512, EdDSA)
)

// Has reports whether a is in the set.
func (s Algorithms) Has(a Algorithm) bool { return a != 0 && s&(1<<a) != 0 }

// Overlaps reports whether an algorithm is in both sets.
func (s Algorithms) Overlaps(other Algorithms) bool { return s&other != 0 }

// List returns the algorithms of the set, in the order of their constants.
func (s Algorithms) List() (list []Algorithm) {
	for a := RS256; a <= HS512; a++ {
		if s.Has(a) {
			list = append(list, a)
		}
	}
	return list
}

// Names returns the names of the algorithms.
func (s Algorithms) Names() (names []string) {
	for _, a := range s.List() {
		names = append(names, a.String())
	}
	return names
}

// Text names the algorithms for a sentence: "RS256, ES256 or EdDSA".
func (s Algorithms) Text() string {
	names := s.Names()
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
