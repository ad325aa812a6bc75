package main

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

// keys sign the tokens of one run. Tokens are signed once and kept: the RSA ones take a millisecond each.
type keys struct {
	private   *rsa.PrivateKey
	publicPEM string
	secret    string
	signed    map[string][]string // by algorithm
}

func newKeys() (*keys, error) {
	k := &keys{secret: rand.Text() + rand.Text(), signed: make(map[string][]string)}
	var err error
	if k.private, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		return nil, err
	}
	k.publicPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return k, nil
}

// good returns n tokens of about 500 bytes.
func (k *keys) good(alg string, n int) []string {
	first := len(k.signed[alg])
	if n > first {
		more := make([]string, n-first)
		var all sync.WaitGroup
		workers := runtime.NumCPU()
		for worker := range workers {
			all.Go(func() {
				for i := worker; i < len(more); i += workers {
					more[i] = k.sign(alg, first+i)
				}
			})
		}
		all.Wait()
		k.signed[alg] = append(k.signed[alg], more...)
	}
	return k.signed[alg][:n]
}

// forged returns tokens that have the claims of one and the signature of another.
func (k *keys) forged(alg string) []string {
	tokens := k.good(alg, 2)
	forged := make([]string, 2)
	for i := range forged {
		claims, signature := tokens[i], tokens[1-i]
		forged[i] = claims[:strings.LastIndexByte(claims, '.')] + signature[strings.LastIndexByte(signature, '.'):]
	}
	return forged
}

func (k *keys) sign(alg string, number int) string {
	now := time.Now().Unix()
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"`+alg+`","kid":"k1","typ":"JWT"}`)) + "." + encode(fmt.Appendf(nil,
		`{"identity":"contact-%07d","iss":"https://login.example.com/","aud":["chat-support","chat-sales"],"iat":%d,"nbf":%d,"exp":%d,`+
			`"jti":"01J9Z3K5V7Q8W2X4Y6A%07d","name":"Mark Twain","email":"mark.twain@example.com","locale":"en-US","plan":"enterprise"}`,
		number, now, now, now+12*3600, number))
	if alg == "HS256" {
		mac := hmac.New(sha256.New, []byte(k.secret))
		mac.Write([]byte(signed))
		return signed + "." + encode(mac.Sum(nil))
	}
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest[:])
	if err != nil {
		panic(err) // cannot be: the key is large enough
	}
	return signed + "." + encode(signature)
}
