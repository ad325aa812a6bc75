package rsaverify

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"testing"
)

// BenchmarkVerify compares a prepared key with crypto/rsa in one run.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{2048, 3072, 4096} {
		private := privateKey(b, size)
		digest := sha256.Sum256([]byte("a token"))
		signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(size, "/crypto/rsa"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if rsa.VerifyPKCS1v15(&private.PublicKey, crypto.SHA256, digest[:], signature) != nil {
					b.Fatal("not verified")
				}
			}
		})
		b.Run(fmt.Sprint(size, "/prepared"), func(b *testing.B) {
			key := New(&private.PublicKey, crypto.SHA256)
			b.ReportAllocs()
			for b.Loop() {
				if !key.Verify(digest[:], signature) {
					b.Fatal("not verified")
				}
			}
		})
	}
}

// BenchmarkNew measures what is computed once for a key.
func BenchmarkNew(b *testing.B) {
	private := privateKey(b, 2048)
	b.ReportAllocs()
	for b.Loop() {
		New(&private.PublicKey, crypto.SHA256)
	}
}
