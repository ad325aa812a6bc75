package caddymodule

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// maxKeyFile is the largest file that {file.…} may name in bytes; the limit of Caddy's own placeholder.
const maxKeyFile = 1 << 20

// keyFiles are the keys of a messenger that come from its configuration, with what is needed to see that a file behind
// them changed.
type keyFiles struct {
	current authn.Keys
	digest  [sha256.Size]byte // of what was read last, good or bad
}

// A reference is a placeholder {env.NAME} or {file.PATH} that is a whole value of the configuration.
type reference struct {
	kind string // "env" or "file"
	name string
}

// parseReference returns the reference that text consists of, and false if text is anything else.
func parseReference(text string) (reference, bool) {
	inner, opened := strings.CutPrefix(text, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	kind, name, found := strings.Cut(inner, ".")
	if !opened || !closed || !found || name == "" || strings.ContainsAny(inner, "{}") || kind != "env" && kind != "file" {
		return reference{}, false
	}
	return reference{kind: kind, name: name}, true
}

// read returns the text behind the reference. Of a file one line break at the end is left out, as Caddy does.
func (r reference) read() ([]byte, error) {
	if r.kind == "env" {
		value := os.Getenv(r.name)
		if value == "" {
			return nil, errors.New("the environment variable is not set or empty")
		}
		return []byte(value), nil
	}
	file, err := os.Open(r.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxKeyFile:
		return nil, errors.New("the file is larger than 1 MiB")
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return nil, errors.New("the file is empty")
	}
	return text, nil
}

// loadKeys reads the keys for the first time and makes the messenger's verifier.
func (m *messenger) loadKeys() error {
	texts, err := m.readKeys()
	if err != nil {
		return err
	}
	keys, err := m.parseKeys(texts)
	if err != nil {
		return err
	}
	m.keys = keyFiles{current: keys, digest: digest(texts, nil)}
	m.trust(keys)
	return nil
}

// reloadKeys reads the keys again and swaps the verifier if they changed. What cannot be used changes nothing: the keys
// loaded before stay in force, and the log says why, once for each thing that was found.
func (m *messenger) reloadKeys() {
	texts, err := m.readKeys()
	now := digest(texts, err)
	if now == m.keys.digest {
		return
	}
	m.keys.digest = now
	var keys authn.Keys
	if err == nil {
		keys, err = m.parseKeys(texts)
	}
	if err != nil {
		m.logger.Error("changed key not taken; the keys loaded before stay in force", zap.Error(err))
		return
	}
	m.keys.current = keys
	m.trust(keys)
	m.logger.Named("audit").Named("keys").Info("keys changed", zap.String("by", "the key file"), zap.String("method", m.method()), zap.Int("keys", m.verifier.Load().Standing().Keys))
}

// watchKeyFiles reads the keys of messengers again and again until done is closed. It compares contents: a file may be
// replaced through a link, or written in place with its old time.
func watchKeyFiles(messengers []*messenger, interval time.Duration, done <-chan struct{}) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			for _, m := range messengers {
				m.reloadKeys()
			}
		}
	}
}

func (m *Messenger) hasKeyFiles() bool {
	for _, value := range m.keyValues() {
		if ref, ok := parseReference(value); ok && ref.kind == "file" {
			return true
		}
	}
	return false
}

// keyValues are the values of the configuration that hold or name keys.
func (m *Messenger) keyValues() []string {
	switch {
	case m.isGenerated():
		return nil
	case m.SharedToken != nil:
		return []string{m.SharedToken.Token}
	}
	values := make([]string, len(m.PublicKey))
	for i, k := range m.PublicKey {
		values[i] = k.Key
	}
	return values
}

// readKeys returns the text of each key. A public key may stand in the configuration itself; a shared token may not,
// because the configuration can be read by everyone who can read the admin endpoint or a saved config.
func (m *messenger) readKeys() ([][]byte, error) {
	var texts [][]byte
	for _, value := range m.keyValues() {
		ref, ok := parseReference(value)
		if !ok {
			if m.SharedToken != nil {
				return nil, errLiteralSecret
			}
			texts = append(texts, []byte(value))
			continue
		}
		text, err := ref.read()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", m.method(), value, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// errLiteralSecret does not quote the value, which may be the secret.
var errLiteralSecret = errors.New("shared_token must be exactly one placeholder {env.NAME} or {file./path}; " +
	"a secret does not belong into the configuration, where everyone who can read that can sign tokens " +
	"(was {$NAME} written? It puts the value into the configuration before it is read: write {env.NAME})")

func (m *messenger) parseKeys(texts [][]byte) (authn.Keys, error) {
	keys := make([]*authn.Key, len(texts))
	for i, text := range texts {
		var err error
		if m.SharedToken != nil {
			keys[i], err = m.SharedToken.parse(text)
		} else {
			keys[i], err = authn.ParsePublicKey(text, m.PublicKey[i].KeyID)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s %w", m.method(), m.keyPlace(i), err)
		}
	}
	set, err := authn.NewKeySet(keys...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.method(), err)
	}
	return set, nil
}

func (t *SharedToken) parse(text []byte) (*authn.Key, error) {
	secret, err := t.Encoding.Decode(string(text))
	if err != nil {
		return nil, err
	}
	return authn.ParseSharedToken(secret, "")
}

// keyPlace names the i-th key in an error: the placeholder, or its number where the key itself stands.
func (m *Messenger) keyPlace(i int) string {
	value := m.keyValues()[i]
	if _, ok := parseReference(value); ok {
		return value
	}
	return fmt.Sprintf("number %d", i+1)
}

func digest(texts [][]byte, err error) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d:", len(text))
		h.Write(text)
	}
	if err != nil {
		h.Write([]byte("error: " + err.Error()))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
