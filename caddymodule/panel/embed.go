package panel

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// The programs that site developers copy: one signs tokens on their server, the other sends them from their page. They are
// filled in with the settings of the messenger, so that the first token is accepted.

// defaultTokenLife is how long the tokens of the samples live, unless the messenger requires a shorter life.
const defaultTokenLife = 10 * time.Minute

// defaultMarker is the subprotocol before the token where no messenger_auth names another.
const defaultMarker = "jwt"

// A sampleContract is what a sample is filled in with.
type sampleContract struct {
	Messenger string
	Identity  string   // the identity key, or the top-level member that has the identity inside
	Inside    []string // where it is in there; empty for an identity key
	Secret    bool     // it is signed with a shared token, otherwise with a private key
	Algorithm string
	KeyID     string
	Type      string // of the header, if it is another than the libraries write
	Seconds   int
	Claims    []sampleClaim // beside the identity, iat and exp
	Marker    string
}

type sampleClaim struct {
	Name, Value string
	FillIn      bool // the messenger requires the claim, and only the site knows its value
}

func sampleContractOf(m *config.Messenger, name string, keys *admin.KeysInfo, marker string) *sampleContract {
	path := strictjson.Pointer{m.IdentityKey}
	if m.IdentityPath != "" {
		path, _ = config.ParseIdentityPath(m.IdentityPath) // it was checked when it was stored
	}
	if len(path) == 0 {
		path = strictjson.Pointer{""} // settings that cannot be used are shown as well
	}
	c := &sampleContract{Messenger: name, Identity: path[0], Inside: path[1:], Secret: m.SharedToken != nil, Marker: marker}
	if authn.TypeOf(m.TokenType) != "jwt" {
		c.Type = m.TokenType
	}
	life := defaultTokenLife
	if limit := time.Duration(m.MaxLifetime); limit > 0 && limit < life {
		life = max(limit, time.Second)
	}
	c.Seconds = int(life / time.Second)
	if algorithms := m.SigningAlgorithms().List(); len(algorithms) > 0 { // a stored value may have no method
		c.Algorithm = algorithms[0].String()
	}
	if keys != nil && !c.Secret {
		for i, key := range keys.Keys {
			if i == 0 {
				c.Algorithm = key.Algorithm // it has a key, which another one of a key set may not have
			}
			if c.KeyID == "" && key.Algorithm == c.Algorithm {
				c.KeyID = key.KeyID
			}
		}
	}
	taken := []string{path[0], "iat", "exp"}
	add := func(claim sampleClaim) {
		if !slices.Contains(taken, claim.Name) {
			taken = append(taken, claim.Name)
			c.Claims = append(c.Claims, claim)
		}
	}
	if issuers := m.Issuers(); len(issuers) > 0 {
		add(sampleClaim{Name: "iss", Value: issuers[0]})
	}
	if len(m.Audience) > 0 {
		add(sampleClaim{Name: "aud", Value: m.Audience[0]})
	}
	for _, claim := range m.RequireClaims {
		if claim != "nbf" { // it is a time, and no sample needs it
			add(sampleClaim{Name: claim, Value: "…", FillIn: true})
		}
	}
	return c
}

// sampleTemplates write programs, and are parsed for the first of them. Every value goes through a function that quotes it for its language.
var sampleTemplates = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"json": quoteJSON,
		"php":  quotePHP,
		"go":   strconv.Quote,

		"nestedJSON": func(path []string, value string) (string, error) {
			return nested(path, value, "{", quoteJSON, ": ", "}")
		},
		"nestedPHP": func(path []string, value string) (string, error) {
			return nested(path, value, "[", infallible(quotePHP), " => ", "]")
		},
		"nestedGo": func(path []string, value string) (string, error) {
			return nested(path, value, "map[string]any{", infallible(strconv.Quote), ": ", "}")
		},
	}).ParseFS(panelFiles, "pages/*.tmpl"))
})

// nested writes value as it is at path, in a language.
func nested(path []string, value, opening string, quote func(string) (string, error), is, closing string) (string, error) {
	for _, name := range slices.Backward(path) {
		quoted, err := quote(name)
		if err != nil {
			return "", err
		}
		value = opening + quoted + is + value + closing
	}
	return value, nil
}

func infallible(quote func(string) string) func(string) (string, error) {
	return func(text string) (string, error) { return quote(text), nil }
}

// quoteJSON quotes text for JavaScript and Python, which both read JSON strings.
func quoteJSON(text string) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(text)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// quotePHP quotes text in single quotes, in which PHP replaces nothing.
func quotePHP(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// Family returns the kind of key for a private key's algorithm: RSA, EC or Ed.
func (c *sampleContract) Family() string {
	switch {
	case strings.HasPrefix(c.Algorithm, "ES"):
		return "EC"
	case c.Algorithm == "EdDSA":
		return "Ed"
	}
	return "RSA"
}

// A sample is one program with what a developer has to know to run it. It has no code if the usual library of the language does
// not sign with the algorithm.
type sample struct {
	ID, Language, Install, Code string
}

// notSigned are the algorithms with which the usual library of a language does not sign.
var notSigned = map[string][]string{"php": {"PS256", "PS384", "PS512", "ES512", "EdDSA"}}

func samplesFor(c *sampleContract) ([]sample, error) {
	list := []sample{
		{ID: "node", Language: "Node", Install: "npm install jsonwebtoken"},
		{ID: "python", Language: "Python", Install: "pip install 'pyjwt[crypto]'"},
		{ID: "php", Language: "PHP", Install: "composer require firebase/php-jwt"},
		{ID: "go", Language: "Go", Install: "go get github.com/golang-jwt/jwt/v5"},
	}
	for i := range list {
		if list[i].ID == "node" && c.Algorithm == "EdDSA" {
			list[i].Install = "node --version" // its own cryptography is enough; jsonwebtoken does not sign EdDSA
		}
		if slices.Contains(notSigned[list[i].ID], c.Algorithm) {
			continue
		}
		code, err := writeSample(list[i].ID, c)
		if err != nil {
			return nil, err
		}
		list[i].Code = code
	}
	return list, nil
}

func writeSample(id string, c *sampleContract) (string, error) {
	var b strings.Builder
	err := sampleTemplates().ExecuteTemplate(&b, "sample."+id+".tmpl", c)
	return b.String(), err
}

type embedView struct {
	view
	Contract *sampleContract
	Page     string // the snippet for the web page
	Samples  []sample
	NoMarker bool // no route takes tokens from subprotocols, as far as this gateway knows
}

// showEmbed shows what a site needs to copy.
func (v *visit) showEmbed() error {
	d, err := v.currentStatus()
	if err != nil {
		return err
	}
	marker := marker(v.app, v.name)
	page := &embedView{view: v.messengerView("embed", d), NoMarker: marker == ""}
	if marker == "" {
		marker = defaultMarker
	}
	page.Contract = sampleContractOf(d.Settings, d.Name, d.keys, marker)
	if page.Page, err = writeSample("page", page.Contract); err != nil {
		return err
	}
	if page.Samples, err = samplesFor(page.Contract); err != nil {
		return err
	}
	v.render(http.StatusOK, "embed", page)
	return nil
}

// marker returns the subprotocol behind which a route of the messenger takes tokens, or "" if none does.
func marker(a *admin.Service, name string) string {
	for _, h := range a.Handlers() {
		if marker := h.Marker(); marker != "" && h.MayServe(name) {
			return marker
		}
	}
	return ""
}
