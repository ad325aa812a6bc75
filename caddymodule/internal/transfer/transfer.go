// Package transfer is the file in which messengers are carried from one store to another: JSON lines, one for each messenger, with
// its settings, its revocations and what happened to its shared tokens.
//
// The text of shared tokens is in a file only if a key was given, and is sealed with it. The construction is that of the store:
// AES-256-GCM with a random nonce, under a key of 32 random bytes. A key and not a passphrase, because such files are made by
// programs and kept for years, where guessing has all the time that it needs; and the operator knows this form of key already. The
// name of the messenger is authenticated, so that secrets cannot be moved to another line.
//
// It does not know what an import does with a line; that is the registry's concern. Begin reading with [Line].
package transfer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// Format is the number of the format of the lines that this version writes.
	Format = 1

	// MaxLine is the size of the longest line in bytes. The revocations of a messenger have 4 MiB at most, and each character that is
	// not ASCII takes up to three times as much in a line.
	MaxLine = 16 << 20

	// maxSettings is the size of the largest settings in a line. A request has at most 64 KiB, and each byte of it may take six here.
	maxSettings = 6 * 64 << 10
)

// Where a messenger was.
const (
	fromConfig = "config"
	fromStore  = "stored"
)

// A Line is one line of a file: a messenger, or the end.
type Line struct {
	Format    int    `json:"format"`
	Messenger string `json:"messenger,omitempty"`
	Source    string `json:"source,omitempty"` // "stored", or "config": then it has no settings

	Created     *time.Time                `json:"created,omitempty"`
	Settings    json.RawMessage           `json:"settings,omitempty"`
	Tokens      []ledger.CopiedToken      `json:"tokens,omitempty"`
	Secrets     string                    `json:"secrets,omitempty"` // sealed
	Headers     string                    `json:"headers,omitempty"` // the values of headers for key servers, sealed
	Revocations []ledger.CopiedRevocation `json:"revocations,omitempty"`

	End *End `json:"end,omitempty"`
}

// An End is in the last line, without which a file is not complete.
type End struct {
	Messengers int `json:"messengers"` // how many lines are before it
}

// A secret is what is sealed of one shared token.
type secret struct {
	ledger.CopiedToken
	Text     string `json:"token"`
	Imported bool   `json:"imported,omitempty"` // it is nowhere else in the line
	Any      bool   `json:"any_kid,omitempty"`
}

// A Sealer seals the secrets of a file, and opens them.
type Sealer interface {
	Seal(place string, text []byte) []byte
	Open(place string, sealed []byte) ([]byte, error)
}

func place(messenger string) string { return "export/" + messenger }

// headersPlace is where the values of headers are sealed for. It has the key servers in it: someone who changes a URL in a file must not
// make the gateway send the values to another server.
func headersPlace(messenger string, m *config.Messenger) string {
	return place(messenger) + "/headers/" + m.SecretsFor()
}

// Encode returns the line of a messenger, with a line break. Without a sealer no secret is in it.
func Encode(name string, c *ledger.Copy, seal Sealer) ([]byte, error) {
	line := Line{Format: Format, Messenger: name, Source: fromConfig, Created: c.Created, Revocations: c.Revocations}
	if c.Settings != nil {
		line.Source = fromStore
		var err error
		if line.Settings, err = json.Marshal(c.Settings.WithoutSecrets()); err != nil {
			return nil, err
		}
		if seal != nil && c.Settings.HasSecrets() {
			line.Headers = sealed(seal, headersPlace(name, c.Settings), c.Settings.Secrets())
		}
	}
	var secrets []secret
	for _, t := range c.Tokens {
		if t.Token != "" && (t.Imported || !t.Revoked) {
			secrets = append(secrets, secret{t, t.Token, t.Imported, t.Any})
		}
		if !t.Imported {
			line.Tokens = append(line.Tokens, t)
		}
	}
	if seal != nil && len(secrets) > 0 {
		line.Secrets = sealed(seal, place(name), secrets)
	}
	return encode(line)
}

// sealed returns secrets sealed for a place in a file.
func sealed(seal Sealer, place string, secrets any) string {
	text, _ := json.Marshal(secrets) // texts and times that were in JSON
	return base64.StdEncoding.EncodeToString(seal.Seal(place, text))
}

// open reads what was sealed for a place. refused is the error if it was sealed with another key, or for another place.
func open(seal Sealer, place, text string, refused error, secrets any) error {
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("it %w", errType)
	}
	opened, err := seal.Open(place, sealed)
	if err != nil {
		return refused
	}
	if json.Unmarshal(opened, secrets) != nil {
		return fmt.Errorf("it %w", errType)
	}
	return nil
}

// EncodeEnd returns the last line of a file with that many messengers.
func EncodeEnd(messengers int) ([]byte, error) {
	return encode(Line{Format: Format, End: &End{messengers}})
}

func encode(line Line) ([]byte, error) {
	text, err := json.Marshal(line)
	if err != nil {
		return nil, err
	}
	// A file may be shown on a terminal, and must not come to say something else there.
	return []byte(printable.ASCII(string(text)) + "\n"), nil
}

var (
	errNewer = errors.New("was made by a newer version of the gateway; import it with that version")
	errType  = errors.New("has a member with a value of the wrong type; export the messenger again")

	errSecrets = errors.New("the secrets cannot be opened: they were sealed with another key, or changed; give the key of the export to --secrets, or leave it out to import without secrets")
	errHeaders = errors.New("the values of jwks header cannot be opened: they were sealed with another key, or for another host or ca; give the key of the export to --secrets, or leave it out to import without secrets")
)

// Parse reads a line. Errors quote no value: it may be a secret or an identity.
func Parse(text []byte) (*Line, error) {
	line, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("it %w", err)
	}
	return line, nil
}

func parse(text []byte) (*Line, error) {
	if len(text) > MaxLine {
		return nil, fmt.Errorf("has more than %d MiB", MaxLine>>20)
	}
	if !utf8.Valid(text) {
		return nil, errors.New("is not UTF-8")
	}
	var format []byte
	if err := strictjson.Object(text, func(name, value []byte) {
		if string(name) == "format" {
			format = value
		}
	}); err != nil {
		return nil, fmt.Errorf("%w; it may be cut off, or not from an export", err)
	}
	line := new(Line)
	if json.Unmarshal(format, &line.Format) != nil {
		return nil, errors.New(`has no format number; a line of an export begins with {"format":1`)
	}
	if line.Format > Format {
		return nil, errNewer
	}
	if line.Format != Format {
		return nil, fmt.Errorf("has the format %d, and only %d is known", line.Format, Format)
	}
	if err := strictjson.Decode(text, line, strictjson.Exceptions{Raw: []string{"settings"}}); err != nil {
		return nil, explained(err)
	}
	return line, line.check()
}

// explained adds to an error of a line, or of the settings in it, what an operator can do. A member that this version does not know may be
// a restriction.
func explained(err error) error {
	switch {
	case errors.Is(err, strictjson.ErrUnknown):
		return fmt.Errorf("%w, or %w", err, errNewer)
	case errors.Is(err, strictjson.ErrType):
		return errType
	}
	return err
}

func (l *Line) check() error {
	if l.End != nil {
		if l.Messenger != "" || l.Settings != nil {
			return errors.New("both ends the file and names a messenger")
		}
		if l.End.Messengers < 0 {
			return errors.New("has a negative number of messengers")
		}
		return nil
	}
	if err := config.CheckName(l.Messenger); err != nil {
		return fmt.Errorf("has a name of a messenger that is not allowed: it %w", err)
	}
	switch {
	case l.Source != fromStore && l.Source != fromConfig:
		return errors.New(`has a "source" other than "stored" and "config"`)
	case (l.Source == fromStore) != (len(l.Settings) > 0):
		return errors.New(`needs "settings" if its source is "stored", and must not have them otherwise`)
	case len(l.Settings) > maxSettings:
		return fmt.Errorf("has settings of more than %d KiB", maxSettings>>10)
	}
	return nil
}

// Copy returns what the line says. Secrets are opened with seal, and left out if that is nil.
func (l *Line) Copy(seal Sealer) (*ledger.Copy, error) {
	c := &ledger.Copy{Created: l.Created, Tokens: slices.Clone(l.Tokens), Revocations: l.Revocations}
	if l.Source == fromStore {
		var err error
		if c.Settings, err = config.DecodeSettings(l.Settings); err != nil {
			return nil, fmt.Errorf("its member settings %w", explained(err))
		}
	}
	if l.Headers != "" && seal != nil && c.Settings != nil {
		if err := l.openHeaders(c.Settings, seal); err != nil {
			return nil, err
		}
	}
	if l.Secrets != "" && seal != nil {
		var secrets []secret
		if err := open(seal, place(l.Messenger), l.Secrets, errSecrets, &secrets); err != nil {
			return nil, err
		}
		c.Tokens = withSecrets(c.Tokens, secrets)
	}
	return c, c.Check()
}

// openHeaders adds the values of headers to settings.
func (l *Line) openHeaders(settings *config.Messenger, seal Sealer) error {
	var secrets [][]string
	if err := open(seal, headersPlace(l.Messenger, settings), l.Headers, errHeaders, &secrets); err != nil {
		return err
	}
	if !settings.SetSecrets(secrets) {
		return fmt.Errorf("it %w", errType)
	}
	return nil
}

// withSecrets puts what was sealed in the place of what the line says openly, which anyone may have changed. Only that a token is revoked
// counts there: it can take a token away, and give none.
func withSecrets(tokens []ledger.CopiedToken, secrets []secret) []ledger.CopiedToken {
	for _, s := range secrets {
		if s.Imported {
			t := s.CopiedToken
			t.Token, t.Imported, t.Any = s.Text, true, s.Any
			tokens = append(tokens, t)
			continue
		}
		i := slices.IndexFunc(tokens, func(t ledger.CopiedToken) bool { return t.Fingerprint == s.Fingerprint })
		if i < 0 {
			continue
		}
		revoked := tokens[i].Revoked
		tokens[i] = s.CopiedToken
		tokens[i].Token, tokens[i].Revoked = s.Text, revoked
	}
	return tokens
}

// NewSealer makes a sealer of the text of a key, of the same form as the keys of the option store.
func NewSealer(key string) (Sealer, error) {
	bytes, err := vault.ParseSealKey([]byte(key))
	if err != nil {
		return nil, fmt.Errorf("the key of the secrets %w", err)
	}
	return vault.NewSealer([][]byte{bytes})
}
