package rsaverify

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha256"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// paddings are encoded messages that some parser has accepted for a digest, by what is wrong with them. An attacker who knows one
// that is accepted, and of which enough bytes can be chosen, signs it without the private key where the exponent is small:
// Bleichenbacher's forgery of 2006, and its relatives of later years.
func paddings(size int, hash crypto.Hash, digest []byte) map[string][]byte {
	info := digestInfos[hash]
	whole := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	// padded fills up to the size with ones in front of the last part.
	padded := func(first, last []byte) []byte {
		return whole(first, bytes.Repeat([]byte{0xff}, max(size-len(first)-len(last), 0)), last)
	}
	start, zero := []byte{0, 1}, []byte{0}
	tail := whole(zero, info, digest)
	garbage := func(n int) []byte { return bytes.Repeat([]byte{0x5a}, n) }
	ones := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	behind := func(n int, rest func(int) []byte) []byte {
		message := whole(start, ones(n), tail)
		return whole(message, rest(size-len(message)))
	}
	// der replaces the DigestInfo, whose parts are the OID, the parameters and the digest.
	oid := info[4:15]
	der := func(algorithm, octets []byte) []byte {
		content := whole(algorithm, octets)
		return padded(start, whole(zero, []byte{0x30, byte(len(content))}, content))
	}
	sequence := func(content []byte) []byte { return whole([]byte{0x30, byte(len(content))}, content) }
	octets := whole([]byte{4, byte(len(digest))}, digest)
	null := []byte{5, 0}
	other := bytes.Clone(oid)
	other[len(other)-1] ^= 7
	changed := func(at int, value byte) []byte {
		message := padded(start, tail)
		message[at] = value
		return message
	}
	return map[string][]byte{
		"garbage behind the digest":                  behind(8, garbage),
		"zeros behind the digest":                    behind(8, func(n int) []byte { return make([]byte, n) }),
		"garbage behind no padding":                  behind(0, garbage),
		"garbage behind almost all of the padding":   behind(size-len(tail)-3, garbage),
		"garbage in place of the padding":            whole(start, garbage(size-len(tail)-2), tail),
		"garbage inside the padding":                 whole(start, ones(8), garbage(size-len(tail)-18), ones(8), tail),
		"zeros for padding":                          whole(start, make([]byte, size-len(tail)-2), tail),
		"seven bytes of padding, then zeros":         whole(start, ones(7), make([]byte, size-len(tail)-9), tail),
		"no separator":                               padded(start, tail[1:]),
		"a separator that is not zero":               padded(start, whole([]byte{1}, tail[1:])),
		"block type 0":                               padded([]byte{0, 0}, tail),
		"block type 2":                               padded([]byte{0, 2}, tail),
		"a first byte that is not zero":              padded([]byte{1, 1}, tail),
		"no first byte":                              padded([]byte{1, 0xff}, tail),
		"parameters left out":                        der(sequence(oid), octets),
		"parameters of two NULLs":                    der(sequence(whole(oid, null, null)), octets),
		"garbage in the parameters":                  der(sequence(whole(oid, []byte{4, 16}, garbage(16))), octets),
		"garbage behind the parameters":              der(whole(sequence(whole(oid, null)), []byte{4, 16}, garbage(16)), octets),
		"garbage behind the digest in DigestInfo":    der(sequence(whole(oid, null)), whole(octets, []byte{4, 16}, garbage(16))),
		"a NULL with content":                        der(sequence(whole(oid, []byte{5, 1, 0})), octets),
		"a NULL in the long form":                    der(sequence(whole(oid, []byte{5, 0x81, 0})), octets),
		"another hash's OID":                         der(sequence(whole(other, null)), octets),
		"no OID":                                     der(sequence(null), octets),
		"a digest in the long form":                  der(sequence(whole(oid, null)), whole([]byte{4, 0x81, byte(len(digest))}, digest)),
		"an OID in the long form":                    der(sequence(whole([]byte{6, 0x81}, oid[1:], null)), octets),
		"a length in the long form":                  padded(start, whole(zero, []byte{0x30, 0x81, info[1]}, info[2:], digest)),
		"a length that is indefinite":                padded(start, whole(zero, []byte{0x30, 0x80}, info[2:], digest, []byte{0, 0})),
		"a length that is one too large":             changed(size-len(tail)+2, info[1]+1),
		"a length that is one too small":             changed(size-len(tail)+2, info[1]-1),
		"a length that ends beyond the message":      changed(size-len(tail)+2, 0x7f),
		"the digest without DigestInfo":              padded(start, whole(zero, digest)),
		"the digest with its first byte left out":    padded(start, whole(zero, info, digest[1:])),
		"a zero in front of the digest":              padded(start, whole(zero, info, zero, digest)),
		"a digest of the same text with zeros":       padded(start, whole(zero, info, make([]byte, len(digest)))),
		"an empty digest":                            padded(start, whole(zero, info)),
		"everything moved by a byte":                 padded(start, whole(tail, zero)),
		"a message of zeros":                         make([]byte, size),
		"a message of ones, below the modulus":       whole(zero, ones(size-1)),
		"a tag of the sequence that is a set":        changed(size-len(tail)+1, 0x31),
		"a tag of the digest that is a string":       changed(size-len(digest)-2, 0x0c),
		"two encodings, one behind the other":        padded(whole(start, ones(8), tail), tail),
		"the encoding of the digest with SHA-1's ID": padded(start, whole(zero, []byte{0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14}, digest[:20])),
	}
}

func TestEveryOtherPaddingIsRefused(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	for i, p := range sharedPairs() {
		for _, hash := range hashes {
			if i > 0 && hash != crypto.SHA256 && !testsize.Soaking() {
				continue
			}
			key, digest := New(p.public, hash), digestOf(hash, "a token")
			for name, message := range paddings(p.public.Size(), hash, digest) {
				number := new(big.Int).SetBytes(message)
				if number.Cmp(p.public.N) >= 0 {
					continue // nothing has such a number for its encoded message
				}
				if agree(t, key, hash, digest, p.sign(number)) {
					t.Errorf("%s, %s: %s is accepted", p.name, hash, name)
				}
			}
		}
	}
}

// No byte of the encoded message may have another value.
func TestEveryByteOfTheEncodedMessageCounts(t *testing.T) {
	p := sharedPairs()[0]
	key, digest := New(p.public, crypto.SHA256), digestOf(crypto.SHA256, "a token")
	size := p.public.Size()
	valid := encode(size, digestInfos[crypto.SHA256], len(digest))
	copy(valid[size-len(digest):], digest)
	step := 5
	if testsize.Soaking() {
		step = 1
	}
	for at := 1; at < size; at += step {
		message := bytes.Clone(valid)
		message[at] ^= 1 << (at % 8)
		if number := new(big.Int).SetBytes(message); number.Cmp(p.public.N) < 0 && agree(t, key, crypto.SHA256, digest, p.sign(number)) {
			t.Errorf("another byte at %d is accepted", at)
		}
	}
}

// How a signature of the comparison below is made.
const (
	anyBytes      = iota // the bytes as they are
	nearModulus          // the modulus, and a small number more or less
	anyMessage           // a message of these bytes, signed
	nearlyMessage        // the encoded message with these bytes over some of it, signed
	somePadding          // one of the paddings, with these bytes over its end, signed
	ways
)

// compare decides on one signature by both verifiers.
func compare(t *testing.T, p *pair, hash crypto.Hash, way, place byte, data []byte) {
	t.Helper()
	key, size := New(p.public, hash), p.public.Size()
	digest := digestOf(hash, "a token")
	valid := encode(size, digestInfos[hash], len(digest))
	copy(valid[size-len(digest):], digest)
	over := func(message []byte) []byte {
		message = bytes.Clone(message)
		at := int(place) * size / 256
		for i := 0; i < len(data) && at+i < len(message); i++ {
			message[at+i] ^= data[i]
		}
		return message
	}
	sign := func(message []byte) []byte {
		return p.sign(new(big.Int).Mod(new(big.Int).SetBytes(message), p.public.N))
	}
	message := valid
	var signature []byte
	switch way % ways {
	case anyBytes:
		signature = data
		if place%2 == 0 {
			signature = append(make([]byte, max(size-len(data), 0)), data...)
		}
	case nearModulus:
		number := new(big.Int).Add(p.public.N, new(big.Int).SetInt64(int64(int8(place))))
		number.Add(number, new(big.Int).SetBytes(data[:min(len(data), 8)]))
		signature = number.Bytes()
	case anyMessage:
		message = data
		signature = sign(data)
	case nearlyMessage:
		message = over(valid)
		signature = sign(message)
	case somePadding:
		list := paddings(size, hash, digest)
		names := slices.Sorted(maps.Keys(list))
		message = over(list[names[int(place)%len(names)]])
		signature = sign(message)
	}
	if agree(t, key, hash, digest, signature) && (way%ways < anyMessage || !bytes.Equal(bytes.TrimLeft(message, "\x00"), valid[1:])) {
		t.Errorf("%s, %s: the message %x is accepted", p.name, hash, message)
	}
}

// FuzzAgainstCryptoRSA lets a prepared key and crypto/rsa decide on anything.
func FuzzAgainstCryptoRSA(f *testing.F) {
	list := sharedPairs()
	if testsize.Soaking() { // such a key takes seconds to make
		list = append(list, pairOf(privateKey(f, 4096)))
	}
	for way := range byte(ways) {
		f.Add(byte(0), way, way, byte(3), []byte{1})
		f.Add(byte(1), byte(1), way, byte(200), []byte{0, 0xff, 0})
		f.Add(byte(len(list)-1), byte(2), way, byte(255), []byte(nil))
	}
	f.Fuzz(func(t *testing.T, which, hash, way, place byte, data []byte) {
		compare(t, list[int(which)%len(list)], hashes[int(hash)%len(hashes)], way, place, data)
	})
}

// TestRandomSignaturesAgainstCryptoRSA is a short run of the same with random values; with MESSENGER_SOAK=1 it takes ten minutes.
func TestRandomSignaturesAgainstCryptoRSA(t *testing.T) {
	list, rounds := sharedPairs(), 150
	end := time.Now()
	if testsize.Soaking() {
		list, end = append(list, pairOf(privateKey(t, 4096))), end.Add(10*time.Minute)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for n := 0; n < rounds || time.Now().Before(end); n++ {
		p := list[random.IntN(len(list))]
		data := make([]byte, random.IntN(p.public.Size()+4))
		if random.IntN(3) > 0 {
			data = data[:min(len(data), random.IntN(4))]
		}
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		compare(t, p, hashes[random.IntN(len(hashes))], byte(random.Uint32()), byte(random.Uint32()), data)
	}
}

// A key is used by many requests at once, and their memory must not mix.
func TestConcurrentUseOfOneKey(t *testing.T) {
	private := privateKey(t, 2048)
	key := New(&private.PublicKey, crypto.SHA256)
	if !key.prepared() && !fips140.Enabled() {
		t.Fatal("the key is not prepared")
	}
	done := make(chan bool)
	for n := range 4 {
		go func() {
			digest := sha256.Sum256([]byte{byte(n)})
			signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
			ok := err == nil
			for range 200 {
				ok = ok && key.Verify(digest[:], signature)
				digest[0] ^= 1
				ok = ok && !key.Verify(digest[:], signature)
				digest[0] ^= 1
			}
			done <- ok
		}()
	}
	for range 4 {
		if !<-done {
			t.Error("a goroutine saw another's signature")
		}
	}
}
