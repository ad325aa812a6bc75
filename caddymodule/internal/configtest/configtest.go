// Package configtest makes messengers with a value for every setting. Tests use them to check that no setting is lost when settings
// are written, stored or shown. It also makes tokens that a shared token has signed.
//
// It does not know how tokens are verified: [Token] signs them by itself, as a site does.
//
// It walks [config.Messenger] by reflection, so that a new setting is in these tests without being written here, unless it is a
// text of a certain form: such a one has a value in [ValidText].
//
// Begin reading with [Messengers].
package configtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// SecretVariable is the environment variable that holds the shared token of [ValidText], in hexadecimal.
const SecretVariable = "TEST_EVERY_SETTING"

// Messengers returns a messenger for each method, and one for a key set that is found at an issuer. Every setting that the method can
// have is not zero. text returns the value of a string; its argument is the path in JSON, such as "issuer0" or "public_key1.kid".
func Messengers(t *testing.T, text func(path string) string) map[string]*config.Messenger {
	t.Helper()
	full := make(map[string]*config.Messenger)
	for _, method := range []string{"public_key", "jwks", "shared_token", "discovery"} {
		m := new(config.Messenger)
		fill(t, reflect.ValueOf(m).Elem(), "", text)
		former := m.Previous
		m.Previous = &config.Previous{Until: former.Until}
		switch method {
		case "public_key":
			m.IdentityPath, m.JWKS, m.SharedToken = "", nil, nil
			m.Previous.JWKS, former.JWKS.Discovery = former.JWKS, ""
		case "jwks":
			m.IdentityPath, m.JWKS.Discovery, m.PublicKey, m.SharedToken = "", "", nil, nil
			m.Previous.PublicKey = former.PublicKey
		case "shared_token":
			m.IdentityPath, m.JWKS, m.PublicKey = "", nil, nil
			m.Previous.JWKS, former.JWKS.URL = former.JWKS, ""
		case "discovery":
			m.IdentityKey, m.JWKS.URL, m.Issuer, m.PublicKey, m.SharedToken = "", "", nil, nil, nil
			m.Previous.SharedToken = former.SharedToken
		}
		full[method] = m
	}
	return full
}

// ValidText returns texts that every check accepts.
func ValidText(path string) string {
	switch member := path[strings.LastIndexByte(path, '.')+1:]; member {
	case "identity_key":
		return "sub"
	case "token_type":
		return "Application/AT+JWT"
	case "identity_path":
		return "/user/id"
	case "discovery":
		return "https://login.example.com/tenant/"
	case "url":
		return "https://login.example.com/keys"
	case "alg":
		if strings.Contains(path, "shared_token") {
			return "HS512"
		}
		return "PS256"
	case "algorithms0":
		return "ES256"
	case "algorithms1":
		return "Ed25519"
	case "ca":
		return newPEM("CERTIFICATE", certificate)
	case "name":
		return "X-" + strings.NewReplacer("_", "-", ".", "-").Replace(path)
	case "value":
		return "Bearer {env." + SecretVariable + "}"
	case "key":
		return newPEM("PUBLIC KEY", publicKey)
	case "token":
		return "{env." + SecretVariable + "}"
	}
	return "https://" + strings.NewReplacer("_", "-", ".", "-").Replace(path) + ".example"
}

// fill gives v, and everything inside it, a value other than zero.
func fill(t *testing.T, v reflect.Value, path string, text func(path string) string) {
	t.Helper()
	switch v.Interface().(type) {
	case config.Mode:
		v.SetString(string(config.ModeReport))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)))
		return
	case sharedtoken.Encoding:
		v.SetString(string(sharedtoken.Hex))
		return
	case caddy.Duration:
		d := time.Minute + time.Duration(len(path))*time.Second + 1 // a value that rounding would change
		if strings.HasSuffix(path, "timeout") {
			d = 7 * time.Second
		}
		v.SetInt(int64(d))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text(path))
	case reflect.Int:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path, text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), fmt.Sprint(path, i), text)
		}
	case reflect.Struct:
		for field, value := range v.Fields() {
			fill(t, value, strings.TrimPrefix(path+"."+Member(t, field), "."), text)
		}
	default:
		t.Fatalf("%s is a %s; give it a value here", path, v.Type())
	}
}

// Member returns the name of a field in JSON. Every setting has one.
func Member(t *testing.T, field reflect.StructField) string {
	t.Helper()
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "" || name == "-" {
		t.Fatalf("%s has no name in JSON", field.Name)
	}
	return name
}

// newPEM returns what encode makes of a new key. Only tests call it, so that it panics.
func newPEM(kind string, encode func(key *rsa.PrivateKey) ([]byte, error)) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := encode(key)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func publicKey(key *rsa.PrivateKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(&key.PublicKey) }

func certificate(key *rsa.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	return x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
}
