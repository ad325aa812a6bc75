package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func sealKeyBytes(b byte) []byte { return bytes.Repeat([]byte{b}, SealKeySize) }

func mustSealer(t testing.TB, keys ...[]byte) *sealer {
	t.Helper()
	s, err := NewSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An attacker with write access to the storage can change every bit of a sealed value, and move it to another key. Only the value that
// the gateway wrote at a key opens there, and no value makes the gateway panic.
func FuzzSealedValuesOpenOnlyAsTheyWereWritten(f *testing.F) {
	f.Add([]byte(`{"revision":"A"}`), "messenger/acme/stored", uint16(0), uint8(0), uint16(0), "messenger/bolt/stored")
	f.Add([]byte(""), "messenger/_changes/list", uint16(25), uint8(3), uint16(12), "messenger/_changes/list ")
	f.Add([]byte("x"), "a", uint16(60), uint8(7), uint16(1), "")
	f.Add([]byte("messenger"), "0", uint16(0), uint8(0), uint16(0), "0")
	f.Fuzz(func(t *testing.T, value []byte, key string, at uint16, bit uint8, cut uint16, elsewhere string) {
		s := mustSealer(t, sealKeyBytes(1), sealKeyBytes(2))
		sealed := s.Seal(key, value)
		opens := func(what, key string, stored []byte) {
			t.Helper()
			if got, err := s.Open(key, stored); err == nil {
				t.Errorf("%s opens, as %q", what, got)
			} else if !IsUnreadable(err) {
				t.Errorf("%s: %v is no answer that a reader knows", what, err)
			}
		}
		if got, err := s.Open(key, sealed); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("what was sealed does not open: %q, %v", got, err)
		}
		// What precedes the ciphertext is the same for all values, and may be what the fuzzer chose as the value.
		if ciphertext := sealed[len(sealedPrefix)+sealKeyIDSize:]; len(value) > 8 && bytes.Contains(ciphertext, value) {
			t.Error("the value is readable in what is stored")
		}
		flipped := bytes.Clone(sealed)
		flipped[int(at)%len(flipped)] ^= 1 << (bit % 8)
		opens("a flipped bit", key, flipped)
		opens("a truncated value", key, sealed[:int(cut)%len(sealed)])
		opens("a longer value", key, append(bytes.Clone(sealed), bit))
		if elsewhere != key {
			opens("a moved value", elsewhere, sealed)
		}
		opens("the value in clear", key, value)
		if _, err := mustSealer(t, sealKeyBytes(3)).Open(key, sealed); !errors.Is(err, errNoSealKey) {
			t.Errorf("another key: %v", err)
		}
		if _, err := mustSealer(t).Open(key, sealed); !errors.Is(err, errSealed) {
			t.Errorf("no key: %v", err)
		}
	})
}

// Every bit of one value, and every length of it: fuzzing tries some, and these are few enough to try all.
func TestChangedSealedValuesAreRefused(t *testing.T) {
	const key = "messenger/acme/stored"
	s := mustSealer(t, sealKeyBytes(1))
	sealed := s.Seal(key, []byte(`{"revision":"A","tokens":[]}`))
	for i := range 8 * len(sealed) {
		flipped := bytes.Clone(sealed)
		flipped[i/8] ^= 1 << (i % 8)
		if _, err := s.Open(key, flipped); err == nil {
			t.Errorf("it opens with bit %d flipped", i)
		}
	}
	for n := range sealed {
		if _, err := s.Open(key, sealed[:n]); err == nil {
			t.Errorf("%d bytes of it open", n)
		}
	}
	if again := s.Seal(key, []byte(`{"revision":"A","tokens":[]}`)); bytes.Equal(again, sealed) {
		t.Error("a value is sealed twice in the same way: the nonce is not random")
	}
}

// A key is changed by putting the new one in front. All open, the first seals, and current finds what is left to be done.
func TestSealKeyRotation(t *testing.T) {
	former, both := mustSealer(t, sealKeyBytes(1)), mustSealer(t, sealKeyBytes(2), sealKeyBytes(1))
	sealed := former.Seal("k", []byte("v"))
	if got, err := both.Open("k", sealed); err != nil || string(got) != "v" {
		t.Errorf("got %q, %v", got, err)
	}
	if both.current(sealed) || !both.current(both.Seal("k", []byte("v"))) || !former.current(sealed) {
		t.Error("current does not tell which values have the first key")
	}
	if _, err := former.Open("k", both.Seal("k", []byte("v"))); !errors.Is(err, errNoSealKey) {
		t.Errorf("a value of the new key opens with the former: %v", err)
	}
	if plain := mustSealer(t); !plain.current([]byte("{}")) || plain.current(sealed) {
		t.Error("without a key, what is in clear is current, and what is sealed is not")
	}
}

func TestSealKeyFormats(t *testing.T) {
	key := make([]byte, SealKeySize)
	_, _ = rand.Read(key)
	key[0], key[1] = 0xff, 0xef // so that the alphabets differ
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		got, err := ParseSealKey([]byte(" " + encoding.EncodeToString(key) + "\r\n"))
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: %v", encoding.EncodeToString(key), err)
		}
	}
	for _, bad := range []string{"", "short", strings.Repeat("a", 44) + "a", "!" + base64.StdEncoding.EncodeToString(key), base64.StdEncoding.EncodeToString(key[:31]), base64.StdEncoding.EncodeToString(append(key, 1))} {
		_, err := ParseSealKey([]byte(bad))
		if err == nil {
			t.Errorf("%q is taken for a key", bad)
		} else if len(bad) > 8 && strings.Contains(err.Error(), bad[:8]) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
	if _, err := NewSealer([][]byte{key, key}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one key twice: %v", err)
	}
	if _, err := NewSealer([][]byte{key[:16]}); err == nil {
		t.Error("a key of 16 bytes is accepted")
	}
}
