package authn

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// Wycheproof has signatures that implementations have accepted by mistake. It is a Go module of 60 MB, and therefore not in
// go.mod: the tests fetch it, and are skipped where that is not possible, unless MESSENGER_TEST_TOOLS names it.
const (
	wycheproof    = "github.com/c2sp/wycheproof@v0.0.0-20260902155932-3fa63dd0344a"
	wycheproofSum = "h1:pNbL2nztRsWfW/ispAwsvcDFxs9Id38uIsR2/Up5G2c="
)

var wycheproofFolder = sync.OnceValues(func() (string, string) {
	folder, err := os.MkdirTemp("", "wycheproof")
	if err != nil {
		return "", err.Error()
	}
	defer os.RemoveAll(folder)
	download := exec.Command("go", "mod", "download", "-json", wycheproof)
	download.Dir = folder                                                                        // outside of every module, none of which it may change
	download.Env = append(os.Environ(), "GONOSUMDB=github.com/c2sp/*", "GOFLAGS=", "GOWORK=off") // the checksum is above
	out, err := download.Output()
	var answer struct{ Dir, Sum, Error string }
	switch failed := json.Unmarshal(out, &answer); {
	case answer.Error != "":
		return "", answer.Error
	case err != nil:
		return "", err.Error()
	case failed != nil:
		return "", failed.Error()
	case answer.Sum != wycheproofSum:
		return "", "it has the checksum " + answer.Sum
	}
	return filepath.Join(answer.Dir, "testvectors_v1"), ""
})

// A vector is one signature, MAC or JWS of Wycheproof.
type vector struct {
	ID      int `json:"tcId"`
	Comment string
	Key     string // of a MAC
	Msg     string
	Sig     string
	Tag     string
	JWS     json.RawMessage // a text, or an object in the JSON serialization
	Result  string
}

type vectors struct {
	PublicKeyDER    string
	TagSize         int
	Comment         string
	Public, Private json.RawMessage
	Tests           []vector
}

func readVectors(t *testing.T, name string) []vectors {
	t.Helper()
	folder, missing := wycheproofFolder()
	if missing != "" {
		if slices.Contains(strings.Fields(os.Getenv("MESSENGER_TEST_TOOLS")), "wycheproof") {
			t.Fatalf("%s is not there: %s", wycheproof, missing)
		}
		t.Skipf("SKIPPED: %s cannot be fetched: %s", wycheproof, missing)
	}
	text, err := os.ReadFile(filepath.Join(folder, name+"_test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ TestGroups []vectors }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.TestGroups
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The files of signatures whose parameters are those of an algorithm of JWS.
var signatureFiles = map[sigkey.Algorithm][]string{
	sigkey.RS256: {"rsa_signature_2048_sha256", "rsa_signature_3072_sha256", "rsa_signature_4096_sha256", "rsa_signature_8192_sha256"},
	sigkey.RS384: {"rsa_signature_2048_sha384", "rsa_signature_3072_sha384", "rsa_signature_4096_sha384"},
	sigkey.RS512: {"rsa_signature_2048_sha512", "rsa_signature_3072_sha512", "rsa_signature_4096_sha512"},
	sigkey.PS256: {"rsa_pss_2048_sha256_mgf1_32", "rsa_pss_3072_sha256_mgf1_32", "rsa_pss_4096_sha256_mgf1_32"},
	sigkey.PS384: {"rsa_pss_2048_sha384_mgf1_48", "rsa_pss_4096_sha384_mgf1_48"},
	sigkey.PS512: {"rsa_pss_4096_sha512_mgf1_64"},
	sigkey.ES256: {"ecdsa_secp256r1_sha256_p1363"},
	sigkey.ES384: {"ecdsa_secp384r1_sha384_p1363"},
	sigkey.ES512: {"ecdsa_secp521r1_sha512_p1363"},
	sigkey.EdDSA: {"ed25519"},
}

// The files of signatures with other parameters, none of which is valid here: another hash, mask or length of the salt.
var otherSignatures = map[sigkey.Algorithm][]string{
	sigkey.PS256: {"rsa_pss_2048_sha256_mgf1_0", "rsa_pss_2048_sha256_mgf1sha1_20", "rsa_pss_2048_sha1_mgf1_20", "rsa_pss_2048_sha512_256_mgf1_32"},
	sigkey.PS512: {"rsa_pss_4096_sha512_mgf1_32"},
	sigkey.ES256: {"ecdsa_secp256r1_sha512_p1363"},
	sigkey.ES384: {"ecdsa_secp384r1_sha512_p1363"},
	sigkey.RS256: {"rsa_signature_2048_sha384", "rsa_pss_2048_sha256_mgf1_32"},
}

func TestSignaturesOfWycheproof(t *testing.T) {
	if testsize.Raced {
		t.Skip("not run with the race detector: it is arithmetic, which takes minutes there")
	}
	t.Parallel()
	// Some of the invalid ones of the other files have the parameters of the algorithm that they are tried with.
	fits := map[string]int{"rsa_signature_2048_sha384": 221, "rsa_pss_2048_sha256_mgf1_32": 108, "rsa_pss_2048_sha256_mgf1_0": 69}
	try := func(alg sigkey.Algorithm, name string, ours bool) {
		accepted, unusable := 0, 0
		for _, group := range readVectors(t, name) {
			key, err := sigkey.ParsePublic(unhex(t, group.PublicKeyDER), "", sigkey.AlgorithmsOf(alg))
			if err != nil { // keys with an exponent of 3, for example, are not accepted
				unusable += len(group.Tests)
				continue
			}
			for _, v := range group.Tests {
				got := key.Verify(unhex(t, v.Msg), unhex(t, v.Sig))
				if want := ours && v.Result == "valid" || !ours && v.ID == fits[name]; got != want && !(ours && v.Result == "acceptable") {
					t.Errorf("%s as %s: number %d (%s) is %s, and verified: %v", name, alg, v.ID, v.Comment, v.Result, got)
				}
				if got {
					accepted++
				}
			}
		}
		if ours && accepted == 0 {
			t.Errorf("%s as %s: none was verified, and %d have keys that are not taken", name, alg, unusable)
		}
	}
	for alg, names := range signatureFiles {
		for _, name := range names {
			try(alg, name, true)
		}
	}
	for alg, names := range otherSignatures {
		for _, name := range names {
			try(alg, name, false)
		}
	}
}

func TestMACsOfWycheproof(t *testing.T) {
	t.Parallel()
	for alg, name := range map[sigkey.Algorithm]string{sigkey.HS256: "hmac_sha256", sigkey.HS384: "hmac_sha384", sigkey.HS512: "hmac_sha512"} {
		accepted := 0
		for _, group := range readVectors(t, name) {
			for _, v := range group.Tests {
				key, err := sigkey.ParseShared(unhex(t, v.Key), "", alg)
				if err != nil {
					continue // it is too short
				}
				whole := group.TagSize == 8*alg.MinSecret() // JWS has no MACs that are cut off
				if got := key.Verify(unhex(t, v.Msg), unhex(t, v.Tag)); got != (v.Result == "valid" && whole) {
					t.Errorf("%s: number %d (%s) of %d bits is %s, and verified: %v", name, v.ID, v.Comment, group.TagSize, v.Result, got)
				} else if got {
					accepted++
				}
			}
		}
		if accepted == 0 {
			t.Errorf("%s: none was verified", name)
		}
	}
}

// notOurs are the valid JWS of Wycheproof that are refused here, by their comments.
var notOurs = map[string]string{
	"emptyPayload":                      "there is no JWT without claims",
	"Figure20":                          "the alg of the key is another one than that of the header",
	"Figure27":                          "its key is said to be for ES521, which is no algorithm",
	"ValidMac":                          "the secret consists of NUL bytes",
	"ValidEdgeCaseMac":                  "the same",
	"ValidSpacesInJsonHeader":           "the same",
	"ValidWhiteSpaceInJsonHeader":       "the same",
	"InvalidCharacterInsertedInHeader":  "it has a character that base64url does not have",
	"InvalidCharacterInsertedInPayload": "the same",
}

// A JWS as a whole, with the key in its JWK: spaces, other alphabets, other forms, keys for encryption, and names of other algorithms.
func TestJWSOfWycheproof(t *testing.T) {
	t.Parallel()
	accepted := 0
	for _, group := range readVectors(t, "json_web_signature") {
		keys := jwkOf(group)
		for _, v := range group.Tests {
			text := string(v.JWS)
			_ = json.Unmarshal(v.JWS, &text) // an object stays one
			token, rej := parseToken(text)
			got := false
			if rej == nil && keys != nil && keys.algorithms().Has(token.header.algorithm) {
				candidates, _, rej := keys.candidates(token.header)
				got = rej == nil && token.signer(candidates) != nil
			}
			if got {
				accepted++
			}
			if want := v.Result == "valid"; got != want && (got || notOurs[v.Comment] == "") {
				t.Errorf("%s %d (%s) is %s, and verified: %v (%v)", group.Comment, v.ID, v.Comment, v.Result, got, rej)
			}
		}
	}
	if accepted < 20 {
		t.Errorf("%d JWS were verified", accepted)
	}
}

// jwkOf returns the key of a group as a messenger with it has it, or nil if it cannot be used.
func jwkOf(group vectors) *KeySet {
	text := group.Public
	if text == nil {
		text = group.Private
	}
	var jwk struct{ Kty, Alg, K, Kid string }
	if json.Unmarshal(text, &jwk) != nil {
		return nil
	}
	if jwk.Kty == "oct" {
		alg, _ := sigkey.ParseAlgorithm(jwk.Alg)
		secret, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(jwk.K, "="))
		if err != nil || !alg.IsSymmetric() {
			return nil
		}
		key, err := sigkey.ParseShared(secret, jwk.Kid, alg)
		if err != nil {
			return nil
		}
		return newKeySet([]*sigkey.Key{key})
	}
	keys, _, err := sigkey.ParseSet([]byte(`{"keys":[`+string(text)+`]}`), sigkey.Asymmetric, false)
	if err != nil {
		return nil
	}
	return newKeySet(keys)
}
