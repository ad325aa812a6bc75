package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(new(bareVerification)) }

// bareVerification is the least that a handler can do with a token and still know that somebody signed it: it checks the
// signature and nothing else, sets one header, or answers 401. It authenticates nobody.
type bareVerification struct {
	Algorithm string `json:"algorithm,omitempty"`
	PublicKey string `json:"public_key,omitempty"` // PEM; HS256 is checked with BENCH_SECRET

	verify func(signed, signature []byte) bool
}

func (*bareVerification) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_verify", New: func() caddy.Module { return new(bareVerification) }}
}

func (b *bareVerification) Provision(caddy.Context) error {
	if b.Algorithm == "HS256" {
		secret := []byte(os.Getenv("BENCH_SECRET"))
		b.verify = func(signed, signature []byte) bool {
			mac := hmac.New(sha256.New, secret)
			mac.Write(signed)
			return hmac.Equal(mac.Sum(nil), signature)
		}
		return nil
	}
	block, _ := pem.Decode([]byte(b.PublicKey))
	if block == nil {
		return errors.New("bench_verify: no PEM")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	switch public := parsed.(type) {
	case *rsa.PublicKey:
		pss := b.Algorithm == "PS256"
		b.verify = func(signed, signature []byte) bool {
			digest := sha256.Sum256(signed)
			if pss {
				return rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
			}
			return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
		}
	case *ecdsa.PublicKey:
		b.verify = func(signed, signature []byte) bool {
			digest := sha256.Sum256(signed)
			half := len(signature) / 2
			return ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
		}
	case ed25519.PublicKey:
		b.verify = func(signed, signature []byte) bool { return ed25519.Verify(public, signed, signature) }
	default:
		return fmt.Errorf("bench_verify: no key of the type %T", parsed)
	}
	return nil
}

func (b *bareVerification) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !b.isSigned(token) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", "13")
		w.WriteHeader(http.StatusUnauthorized)
		_, err := w.Write([]byte("unauthorized\n"))
		return err
	}
	r.Header.Del("Authorization")
	r.Header.Set("X-Contact-Identity", "mark")
	return next.ServeHTTP(w, r)
}

func (b *bareVerification) isSigned(token string) bool {
	end := strings.LastIndexByte(token, '.')
	if end < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[end+1:])
	return err == nil && b.verify([]byte(token[:end]), signature)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*bareVerification)(nil)
	_ caddyhttp.MiddlewareHandler = (*bareVerification)(nil)
)
