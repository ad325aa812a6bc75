package sigkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"strings"
)

// An unfitError is about a sound key for which no accepted algorithm is.
type unfitError struct {
	reason string
	needs  Algorithm // one that the key could be used with
}

func (e *unfitError) Error() string { return e.reason }

// newPublicKey checks public and makes it a key for the one of the accepted algorithms that it fits. own is the alg that the key
// itself has, or nil; only are the algorithms to which its form restricts it, or 0. A key that fits several without saying which is
// refused: it would have two algorithms, of which an attacker could take the weaker one.
func newPublicKey(public any, kid string, own *string, only, accepted Algorithms) (*Key, error) {
	fits, kind, err := algorithmsFor(public)
	if err != nil {
		return nil, err
	}
	if only != 0 {
		fits, kind = fits&only, kind+" for RSA-PSS alone"
	}
	alg, err := choose(fits, kind, own, accepted)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("is %s that cannot be encoded: %w", kind, err)
	}
	k := &Key{alg: alg, kid: kid, material: public, fingerprint: sha256.Sum256(der)}
	k.prepare()
	return k, nil
}

// algorithmsFor checks public, and returns the algorithms for keys of its type and what the type is called.
func algorithmsFor(public any) (fits Algorithms, kind string, err error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return AlgorithmsOf(RS256, RS384, RS512, PS256, PS384, PS512), "an RSA key", checkRSA(public)
	case *ecdsa.PublicKey:
		for a := RS256; a <= HS512; a++ {
			if curve := public.Curve.Params().Name; algorithms[a].curve == curve {
				// A JWK may have any two numbers; x509 has checked those of the other forms.
				if _, err := public.ECDH(); err != nil {
					return 0, "", errors.New("is an elliptic curve key that is not a point of its curve")
				}
				return AlgorithmsOf(a), "an elliptic curve key (" + curve + ")", nil
			}
		}
		return 0, "", errors.New("is an elliptic curve key of another curve than P-256, P-384, P-521 and Ed25519")
	case ed25519.PublicKey:
		return AlgorithmsOf(EdDSA), "an elliptic curve key (Ed25519)", checkEd25519(public)
	}
	return 0, "", fmt.Errorf("is a key of type %s, which is not for signatures; give an RSA, EC or Ed25519 key", strings.TrimPrefix(fmt.Sprintf("%T", public), "*"))
}

// choose returns the one algorithm of a key.
func choose(fits Algorithms, kind string, own *string, accepted Algorithms) (Algorithm, error) {
	if own != nil {
		alg, known := ParseAlgorithm(*own)
		switch {
		case !known || !fits.Has(alg):
			return 0, fmt.Errorf("has an alg other than %s", accepted.Text())
		case !accepted.Has(alg):
			return 0, &unfitError{fmt.Sprintf("has the alg %s, and only %s is accepted", alg, accepted.Text()), alg}
		}
		return alg, nil
	}
	fitting := fits & accepted
	switch list := fitting.List(); len(list) {
	case 1:
		return list[0], nil
	case 0:
		return 0, &unfitError{fmt.Sprintf("is %s, and only %s is accepted", kind, accepted.Text()), fits.List()[0]}
	}
	return 0, fmt.Errorf("is %s that could be for %s, and has no alg that says which", kind, fitting.Text())
}

const (
	minRSABits = 2048 // RFC 7518 section 3.3
	maxRSABits = 8192 // a verification with a longer key takes milliseconds, for every token that an attacker sends
)

func checkRSA(key *rsa.PublicKey) error {
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("is an RSA key of %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
	}
	if key.N.Bit(0) == 0 {
		return errors.New("is an RSA key with an even modulus, which is not a product of two large primes")
	}
	if key.E < 3 || key.E%2 == 0 || key.E > math.MaxInt32 {
		return errors.New("is an RSA key with an unsound exponent; it must be odd, at least 3 and below 2^31")
	}
	return nil
}

const (
	maxSmallRSABits  = 4096
	maxSmallExponent = 65537
)

// CheckSmall refuses a sound key that costs more than usual ones. A verification with a key of 8192 bits and a large exponent takes
// a hundred times as long as one with 2048 bits and the usual exponent, for every token that an attacker sends. The operator of the
// gateway may choose that; a site owner, who does not pay for the gateway's processor, may not.
func (k *Key) CheckSmall() error {
	public, ok := k.material.(*rsa.PublicKey)
	switch {
	case !ok:
		return nil
	case public.N.BitLen() > maxSmallRSABits:
		return fmt.Errorf("is an RSA key of %d bits; a stored messenger takes %d to %d: make a key of 2048 or 3072 bits", public.N.BitLen(), minRSABits, maxSmallRSABits)
	case public.E > maxSmallExponent:
		return fmt.Errorf("is an RSA key with the exponent %d; a stored messenger takes at most %d, the exponent that tools choose", public.E, maxSmallExponent)
	}
	return nil
}
