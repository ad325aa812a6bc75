package keytext

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"
)

// sshCurves are the curves of the key types that OpenSSH writes (RFC 5656 section 10.1).
var sshCurves = map[string]elliptic.Curve{
	"ecdsa-sha2-nistp256": elliptic.P256(), "ecdsa-sha2-nistp384": elliptic.P384(), "ecdsa-sha2-nistp521": elliptic.P521(),
}

var errSSH = errors.New("is an OpenSSH public key that is damaged; give its whole line")

// isSSH reports whether text begins with a type of key that we read. Options in front of it, as in authorized_keys, and
// certificates are not among them.
func isSSH(text []byte) bool {
	kind, _, found := bytes.Cut(text, []byte(" "))
	return found && (string(kind) == "ssh-rsa" || string(kind) == "ssh-ed25519" || sshCurves[string(kind)] != nil)
}

// parseSSH reads one line of OpenSSH: the type, the key in base64, and a comment (sshd(8), RFC 4253 section 6.6).
func parseSSH(text []byte) (Key, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return Key{}, errors.New("contains more than one line behind an OpenSSH public key; give each key a public_key line of its own")
	}
	fields := bytes.SplitN(text, []byte(" "), 3)
	blob, err := base64.StdEncoding.AppendDecode(nil, fields[1])
	if err != nil {
		return Key{}, errSSH
	}
	kind := string(fields[0])
	w := wire{rest: blob}
	if string(w.bytes()) != kind {
		return Key{}, errSSH
	}
	var public any
	switch kind {
	case "ssh-rsa":
		e, n := w.integer(), w.integer()
		if !w.bad && e.BitLen() < 32 {
			public = &rsa.PublicKey{N: n, E: int(e.Int64())}
		}
	case "ssh-ed25519":
		if key := w.bytes(); len(key) == ed25519.PublicKeySize {
			public = ed25519.PublicKey(bytes.Clone(key))
		}
	default:
		curve := sshCurves[kind]
		name, point := w.bytes(), w.bytes()
		if "ecdsa-sha2-"+string(name) == kind {
			if key, err := ecdsa.ParseUncompressedPublicKey(curve, point); err == nil {
				public = key
			}
		}
	}
	if public == nil || w.bad || len(w.rest) > 0 {
		return Key{}, errSSH
	}
	return Key{Public: public}, nil
}

// A wire reads the encoding of SSH (RFC 4251 section 5).
type wire struct {
	rest []byte
	bad  bool
}

func (w *wire) bytes() []byte {
	if len(w.rest) < 4 {
		w.bad = true
		return nil
	}
	size := binary.BigEndian.Uint32(w.rest)
	if uint64(size) > uint64(len(w.rest)-4) {
		w.bad = true
		return nil
	}
	value := w.rest[4 : 4+size]
	w.rest = w.rest[4+size:]
	return value
}

// integer reads a number that is not negative, in its only encoding.
func (w *wire) integer() *big.Int {
	value := w.bytes()
	if len(value) == 0 || value[0] >= 0x80 || value[0] == 0 && (len(value) == 1 || value[1] < 0x80) {
		w.bad = true
		return new(big.Int)
	}
	return new(big.Int).SetBytes(value)
}
