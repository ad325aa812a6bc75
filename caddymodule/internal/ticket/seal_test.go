package ticket

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"
	"time"
)

// The key of a ticket is the HMAC that the standard library makes of its name, whatever this package saves on the way.
func TestTicketKeysAreHMAC(t *testing.T) {
	k, err := newKey(storeKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := hkdf.Key(sha256.New, storeKey, nil, purpose, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		id := [idSize]byte{byte(i), 1: 7, idSize - 1: byte(255 - i)}
		mac := hmac.New(sha256.New, secret)
		mac.Write(id[:])
		if got := k.mac(id); !hmac.Equal(got[:], mac.Sum(nil)) {
			t.Fatalf("the key of the ticket %x is another one", id)
		}
	}
}

// An attacker who sends made-up tickets makes the gateway allocate little, so that they cost what forged tokens do.
func TestForgedTicketsAllocateLittle(t *testing.T) {
	d := newDesk(t, new(shelf), "a")
	text, err := d.Give(Ticket{Messenger: "support", Token: strings.Repeat("x", 500), Expires: start.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	forged := text[:len(text)-8] + "AAAAAAAA"
	if n := testing.AllocsPerRun(100, func() { _, _ = d.Open(forged, start) }); n > 6 {
		t.Errorf("a made-up ticket costs %v allocations", n)
	}
}
