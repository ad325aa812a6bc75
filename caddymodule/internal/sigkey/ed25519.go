package sigkey

import (
	"bytes"
	"crypto/ed25519"
	"errors"

	"filippo.io/edwards25519"
)

// smallOrder are the encodings of the points of Ed25519 whose order is 1, 2, 4 or 8, without the sign of x: the ordinates 0, 1, -1,
// the two of order 8, and 0 and 1 once more as numbers that are not reduced. A signature under such a key is valid for many texts
// or for all, and the owner of one could later claim to have signed anything.
var smallOrder = [...][ed25519.PublicKeySize]byte{
	{},
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
	ordinate(0xec), // -1
	ordinate(0xed), // the prime, which is 0
	ordinate(0xee), // 1
}

// ordinate returns the number with this lowest byte that has all bits set in the others, but for the sign.
func ordinate(lowest byte) (encoded [ed25519.PublicKeySize]byte) {
	for i := range encoded {
		encoded[i] = 0xff
	}
	encoded[0], encoded[len(encoded)-1] = lowest, 0x7f
	return encoded
}

// hasSmallOrder reports whether an encoded point is one of those.
func hasSmallOrder(point []byte) bool {
	last := len(point) - 1
	for i := range smallOrder {
		if point[last]&0x7f == smallOrder[i][last] && bytes.Equal(point[:last], smallOrder[i][:last]) {
			return true
		}
	}
	return false
}

// checkEd25519 refuses what is not the only encoding of a point of large order. Go's own verification takes any 32 bytes for a key,
// and finds only then, for each signature, that they are not a point.
func checkEd25519(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize {
		return errors.New("is an elliptic curve key (Ed25519) that does not have 32 bytes")
	}
	if hasSmallOrder(public) {
		return errors.New("is an elliptic curve key (Ed25519) of small order, for which anyone can sign")
	}
	point, err := new(edwards25519.Point).SetBytes(public)
	if err != nil || !bytes.Equal(point.Bytes(), public) {
		return errors.New("is an elliptic curve key (Ed25519) that is not a point of the curve in its usual form")
	}
	return nil
}
