package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"
)

// keys sign the tokens of one run. Tokens are signed once and kept: the RSA ones take a millisecond each.
type keys struct {
	rsa    *rsa.PrivateKey
	ecdsa  *ecdsa.PrivateKey
	eddsa  ed25519.PrivateKey
	secret string
	signed map[string][]string // by algorithm
}

func newKeys() (*keys, error) {
	k := &keys{secret: rand.Text() + rand.Text(), signed: make(map[string][]string)}
	var errs [3]error
	k.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.ecdsa, errs[1] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.eddsa, errs[2] = ed25519.GenerateKey(rand.Reader)
	return k, errors.Join(errs[:]...)
}

// publicPEM returns the key that verifies tokens of an algorithm, or "" for HS256.
func (k *keys) publicPEM(alg string) string {
	var public any
	switch alg {
	case "HS256":
		return ""
	case "ES256":
		public = k.ecdsa.Public()
	case "EdDSA":
		public = k.eddsa.Public()
	default:
		public = k.rsa.Public()
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err) // cannot be: newKeys has made it
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
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
	signature, err := k.signature(alg, []byte(signed))
	if err != nil {
		panic(err) // cannot be: the keys are large enough
	}
	return signed + "." + encode(signature)
}

// signature signs as RFC 7518, sections 3.2 to 3.5, and RFC 8037 say.
func (k *keys) signature(alg string, signed []byte) ([]byte, error) {
	digest := sha256.Sum256(signed)
	switch alg {
	case "HS256":
		mac := hmac.New(sha256.New, []byte(k.secret))
		mac.Write(signed)
		return mac.Sum(nil), nil
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, k.ecdsa, digest[:])
		if err != nil {
			return nil, err
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
	case "EdDSA":
		return ed25519.Sign(k.eddsa, signed), nil
	case "PS256":
		return rsa.SignPSS(rand.Reader, k.rsa, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return rsa.SignPKCS1v15(nil, k.rsa, crypto.SHA256, digest[:])
}

// worstTokens returns tokens that nobody has signed and that take longer to refuse than others: their headers are as long as a
// header may be, and have as many small objects as fit, or names that are compared one by one.
func worstTokens() (tokens []string) {
	const header, token, signature = 3000, 8 << 10, 342
	for _, part := range []string{`{"":0},`, `{"\u0020":0,"\u0021":0,"\u0022":0,"\u0023":0,"\u0024":0,"\u0025":0,"\u0026":0},`} {
		text := `{"alg":"RS256","x":[`
		text += strings.Repeat(part, (header-len(text)-len("{}]}"))/len(part)) + "{}]}"
		first := base64.RawURLEncoding.EncodeToString([]byte(text))
		payload := (token - len(first) - 2 - signature) / 4 * 4
		tokens = append(tokens, first+"."+strings.Repeat("A", payload)+"."+strings.Repeat("A", signature))
	}
	return tokens
}
