package main

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
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
	PublicKey string `json:"public_key,omitempty"` // PEM; without it HS256 with BENCH_SECRET is checked

	public *rsa.PublicKey
	secret []byte
}

func (*bareVerification) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_verify", New: func() caddy.Module { return new(bareVerification) }}
}

func (b *bareVerification) Provision(caddy.Context) error {
	if b.PublicKey == "" {
		b.secret = []byte(os.Getenv("BENCH_SECRET"))
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
	b.public = parsed.(*rsa.PublicKey)
	return nil
}

func (b *bareVerification) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	end := strings.LastIndexByte(token, '.')
	if end < 0 || !b.verify(token[:end], token[end+1:]) {
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

func (b *bareVerification) verify(signed, encoded string) bool {
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	if b.public == nil {
		mac := hmac.New(sha256.New, b.secret)
		mac.Write([]byte(signed))
		return hmac.Equal(mac.Sum(nil), signature)
	}
	digest := sha256.Sum256([]byte(signed))
	return rsa.VerifyPKCS1v15(b.public, crypto.SHA256, digest[:], signature) == nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*bareVerification)(nil)
	_ caddyhttp.MiddlewareHandler = (*bareVerification)(nil)
)
