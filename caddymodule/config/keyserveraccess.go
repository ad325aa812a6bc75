package config

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keyserver"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keytext"
)

// Roots are certificates of authorities: PEM, a placeholder for it, or the name of a file with it.
type Roots string

const (
	// maxStoredRoots and maxStoredRootsText limit the certificates of a stored messenger, which are read for every fetch.
	maxStoredRoots     = 10
	maxStoredRootsText = 32 << 10 // bytes
)

func (r Roots) isPEM() bool { return strings.Contains(string(r), "-----BEGIN") }

// read returns the certificates of a messenger of the configuration. Errors begin with the option's name.
func (r Roots) read(files LoadedFiles) (*x509.CertPool, error) {
	if reference, whole := ParseReference(string(r)); whole && reference.Kind == "file" {
		found, err := files.Read(reference)
		if err != nil {
			return nil, fmt.Errorf("ca: {file.%s}: %w", reference.Name, err)
		}
		return parseRoots(found.Whole, "ca "+string(r))
	}
	text, err := files.Resolve(string(r))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ca: %w", err)
	case Roots(text).isPEM():
		return parseRoots([]byte(text), "ca")
	}
	found, err := files.Read(Reference{Kind: "file", Name: text})
	if err != nil {
		return nil, fmt.Errorf("ca %.200s: %w", text, err)
	}
	return parseRoots(found.Whole, "ca "+text)
}

func parseRoots(text []byte, place string) (*x509.CertPool, error) {
	certificates, err := keytext.Certificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", place, err)
	}
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool, nil
}

// checkStored refuses what a site owner may not name: a file of the gateway.
func (r Roots) checkStored() error {
	if r == "" {
		return nil
	}
	if !r.isPEM() || hasPlaceholder(string(r)) {
		return errors.New("ca is not PEM; a stored messenger has the certificates themselves (-----BEGIN CERTIFICATE-----)")
	}
	if len(r) > maxStoredRootsText {
		return fmt.Errorf("ca has %d bytes; a stored messenger takes at most %d: give the certificates of the authority alone", len(r), maxStoredRootsText)
	}
	certificates, err := keytext.Certificates([]byte(r))
	switch {
	case err != nil:
		return fmt.Errorf("ca %w", err)
	case len(certificates) > maxStoredRoots:
		return fmt.Errorf("ca has %d certificates; a stored messenger takes at most %d: give those of the authority alone", len(certificates), maxStoredRoots)
	}
	return nil
}

// A KeyServerAccess is how a key server is asked for which a URL alone is not enough.
type KeyServerAccess struct {
	// ID differs for other certificates and headers. It stays in memory: a short secret could be guessed from it.
	ID string

	// Scope tells copies of key sets apart in the storage that were fetched from one URL in different ways. No secret is in it.
	Scope string

	// Fetch returns the certificates and headers for one fetch. A file is read again.
	Fetch keyserver.AccessFunc
}

// IsUsual reports whether the key server is asked without anything of its own.
func (j *JWKS) IsUsual() bool { return j.CA == "" && len(j.Header) == 0 }

// Access returns how the key server of a messenger of the configuration is asked; it is empty if its URL is enough. It reads everything
// once, so that what cannot be read stops the load. A pipe is read then and never again.
func (j *JWKS) Access(files LoadedFiles) (KeyServerAccess, error) {
	if j.IsUsual() {
		return KeyServerAccess{}, nil
	}
	if files == nil {
		files = make(LoadedFiles)
	}
	resolve := func(files LoadedFiles) (keyserver.Access, error) {
		var access keyserver.Access
		var err error
		if j.CA != "" {
			if access.Roots, err = j.CA.read(files); err != nil {
				return access, err
			}
		}
		access.Header, err = requestHeader(j.Header, func(h RequestHeader) (string, string, error) { return h.resolve(files) })
		return access, err
	}
	if _, err := resolve(files); err != nil {
		return KeyServerAccess{}, err
	}
	pipes := maps.Clone(files)
	maps.DeleteFunc(pipes, func(_ string, found FileText) bool { return !found.Pipe })
	content := []any{j.CA, headerTexts(j.Header)}
	for _, name := range slices.Sorted(maps.Keys(pipes)) {
		content = append(content, name, string(pipes[name].Text))
	}
	return KeyServerAccess{digestOf(content...), digestOf(j.CA, headerTexts(j.Header)), func() (keyserver.Access, error) { return resolve(maps.Clone(pipes)) }}, nil
}

// StoredAccess is Access for a stored messenger. Nothing in it is a placeholder, or the name of a file: a site owner could read the
// gateway's files and environment with it, by sending them to a server of their own.
func (j *JWKS) StoredAccess(messenger string, created time.Time) (KeyServerAccess, error) {
	if j.IsUsual() {
		return KeyServerAccess{}, nil
	}
	var access keyserver.Access
	var err error
	if j.CA != "" {
		if access.Roots, err = parseRoots([]byte(j.CA), "ca"); err != nil {
			return KeyServerAccess{}, err
		}
	}
	access.Header, err = requestHeader(j.Header, func(h RequestHeader) (string, string, error) {
		return h.Name, string(h.Value), checkHeaderValue(string(h.Value))
	})
	if err != nil {
		return KeyServerAccess{}, err
	}
	scope := digestOf(j.CA)
	if len(j.Header) > 0 {
		scope = digestOf(j.CA, messenger, created.UnixNano())
	}
	return KeyServerAccess{digestOf("stored", scope, j.CA, headerTexts(j.Header)), scope, func() (keyserver.Access, error) { return access, nil }}, nil
}

func requestHeader(headers []RequestHeader, resolve func(RequestHeader) (name, value string, err error)) (http.Header, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	made := make(http.Header)
	for _, h := range headers {
		name, value, err := resolve(h)
		if err != nil {
			return nil, err
		}
		made.Set(name, value)
	}
	return made, nil
}

// headerTexts are the headers as they are configured, for a digest.
func headerTexts(headers []RequestHeader) (texts []string) {
	for _, h := range headers {
		texts = append(texts, h.Name, string(h.Value))
	}
	return texts
}

func digestOf(content ...any) string {
	text, _ := json.Marshal(content) // texts and numbers
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// keySets returns the key sets of the messenger and of its previous method.
func (m *Messenger) keySets() (sets []*JWKS) {
	if m.JWKS != nil {
		sets = append(sets, m.JWKS)
	}
	if m.Previous != nil && m.Previous.JWKS != nil {
		sets = append(sets, m.Previous.JWKS)
	}
	return sets
}

// HasSecrets reports whether some header has a value of its own, which must be stored sealed.
func (m *Messenger) HasSecrets() bool {
	return slices.ContainsFunc(m.keySets(), func(j *JWKS) bool {
		return slices.ContainsFunc(j.Header, func(h RequestHeader) bool { return h.Value != "" && !h.Value.isReference() })
	})
}

// WithoutSecrets returns a copy of the settings without the values of headers, for everyone who may see settings. Saving the
// copy keeps the values; see [Messenger.KeepSecrets].
func (m *Messenger) WithoutSecrets() *Messenger {
	shown := m.CopySettings()
	for _, j := range shown.keySets() { // which are copies
		for i, h := range j.Header {
			if !h.Value.isReference() {
				j.Header[i].Value = ""
			}
		}
	}
	return shown
}

// KeepSecrets returns the settings with the values of former for those headers that have none. A value is kept only for the same
// scheme, host and port, and for the same authorities: otherwise an operator who may change the URL could have the gateway send the
// secret to a server of their own. former may be nil.
func (m *Messenger) KeepSecrets(former *Messenger) *Messenger {
	if former == nil {
		return m
	}
	kept := m.CopySettings()
	for _, j := range kept.keySets() {
		for i := range j.Header {
			if j.Header[i].Value == "" {
				j.Header[i].Value = former.secretFor(j, j.Header[i].Name)
			}
		}
	}
	return kept
}

// secretFor returns the value of the header that m sends to the same key server as j, or "".
func (m *Messenger) secretFor(j *JWKS, name string) HiddenText {
	for _, old := range m.keySets() {
		if old.CA != j.CA || !keyserver.IsSameHost(old.Document(), j.Document()) {
			continue
		}
		for _, h := range old.Header {
			if h.Value != "" && ascii.EqualFold(h.Name, name) {
				return h.Value
			}
		}
	}
	return ""
}

// Secrets returns the values of the headers, in the order of the key sets and their headers.
func (m *Messenger) Secrets() (values [][]string) {
	for _, j := range m.keySets() {
		var list []string
		for _, h := range j.Header {
			list = append(list, string(h.Value))
		}
		values = append(values, list)
	}
	return values
}

// SetSecrets sets what Secrets has returned for settings with the same headers, and reports whether they are the same.
func (m *Messenger) SetSecrets(values [][]string) bool {
	sets := m.keySets()
	if len(sets) != len(values) {
		return false
	}
	for i, j := range sets {
		if len(j.Header) != len(values[i]) {
			return false
		}
		for n, value := range values[i] {
			j.Header[n].Value = HiddenText(value)
		}
	}
	return true
}

// SecretsFor says to which servers the headers go, and what they are called.
func (m *Messenger) SecretsFor() string {
	var content []any
	for _, j := range m.keySets() {
		content = append(content, j.CA, keyserver.Host(j.Document()))
		for _, h := range j.Header {
			content = append(content, h.Name)
		}
	}
	return digestOf(content...)
}
