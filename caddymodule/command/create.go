package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// createOptions are the flags of "caddy messenger create".
type createOptions struct {
	administrator
	settings, jwks, clockSkew, maxLifetime string
	publicKeys, kids                       []string
	sharedToken, replace, asJSON           bool
	m                                      config.Messenger
}

func createCommand() *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create <messenger> --identity-key <claim> (--public-key <file>... | --jwks <url> | --shared-token) [<setting>]... | --settings <file>",
		Short: "Creates a messenger in the storage, without a reload",
		Long: `
Creates a messenger that is kept in Caddy's storage, and not in the
configuration. A messenger_auth whose messenger is a placeholder, such as
{labels.2}, takes it from then on; nothing is reloaded, and no connection is
closed.

The flags are the options of the same names in the Caddyfile. With
--settings they are read from a file, or from standard input (-), as JSON of the
form that "show --json" prints under "settings".

A messenger with --shared-token gets its first token with
caddy messenger tokens generate <messenger>.

With --replace the settings of a stored messenger are replaced; by flags those
that have a flag, and by --settings all. Its shared tokens stay, unless its
method becomes another.`,
		Args: oneMessenger,
		RunE: o.run(true, o.create),
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.settings, "settings", "", "A file with all settings as JSON, or - for standard input")
	f.StringVar(&o.m.IdentityKey, "identity-key", "", "The claim that holds the contact identity")
	f.StringArrayVar(&o.publicKeys, "public-key", nil, "A file with an RSA public key; may be repeated")
	f.StringArrayVar(&o.kids, "kid", nil, "The kid of the public key in the same place; may be repeated")
	f.StringVar(&o.jwks, "jwks", "", "The URL of a key set")
	f.BoolVar(&o.sharedToken, "shared-token", false, "Shared tokens that the gateway generates")
	f.StringArrayVar(&o.m.Issuer, "issuer", nil, "An accepted iss; may be repeated")
	f.StringArrayVar(&o.m.Audience, "audience", nil, "An accepted aud; may be repeated")
	f.StringArrayVar(&o.m.RequireClaims, "require-claim", nil, "A claim that every token must have; may be repeated")
	f.StringArrayVar(&o.m.AllowedOrigin, "allowed-origin", nil, "The origin of a page that holds the widget; may be repeated")
	f.StringVar(&o.clockSkew, "clock-skew", "", "How far clocks may be apart (default 1m)")
	f.StringVar(&o.maxLifetime, "max-lifetime", "", "The longest life of a token")
	f.StringVar((*string)(&o.m.Mode), "mode", "", "required, optional, report or off (default required)")
	f.BoolVar(&o.replace, "replace", false, "Replace the settings of a stored messenger")
	f.BoolVar(&o.asJSON, "json", false, "Print JSON")
	return cmd
}

func (o *createOptions) create(cmd *cobra.Command, name string) error {
	settings, err := o.read(cmd)
	if err != nil {
		return err
	}
	condition := "If-None-Match: *"
	if o.replace {
		var there admin.Description
		if err := o.do(http.MethodGet, "messengers/"+name, "", nil, &there); err != nil {
			return err
		}
		condition = `If-Match: "` + there.Revision + `"`
		if there.Revision == "" {
			condition = "" // it is in the configuration, and the answer says what that means
		}
		if o.settings == "" && there.Settings != nil {
			settings = settings.WithFormer(there.Settings)
		}
	}
	var made admin.Description
	if err := o.do(http.MethodPut, "messengers/"+name, condition, settings, &made); err != nil {
		return err
	}
	return show(cmd.OutOrStdout(), o.asJSON, &made, messengerText)
}

// read returns the settings that the flags or the file give.
func (o *createOptions) read(cmd *cobra.Command) (*config.Messenger, error) {
	if o.settings != "" {
		return o.readSettings(cmd)
	}
	m := o.m.CopySettings()
	if len(o.kids) > len(o.publicKeys) {
		return nil, errors.New("--kid is given more often than --public-key; each names the kid of one key")
	}
	for i, file := range o.publicKeys {
		text, err := config.ReadArgument(file)
		if err != nil {
			return nil, fmt.Errorf("--public-key %w", err)
		}
		key := config.PublicKey{Key: string(text)}
		if i < len(o.kids) {
			key.KeyID = o.kids[i]
		}
		m.PublicKey = append(m.PublicKey, key)
	}
	if o.jwks != "" {
		m.JWKS = &config.JWKS{URL: o.jwks}
	}
	if o.sharedToken {
		m.SharedToken = new(config.SharedToken)
	}
	if o.clockSkew != "" {
		skew, err := caddy.ParseDuration(o.clockSkew)
		if err != nil {
			return nil, errors.New("--clock-skew is not a duration such as 30s")
		}
		m.ClockSkew = (*caddy.Duration)(&skew)
	}
	if o.maxLifetime != "" {
		lifetime, err := caddy.ParseDuration(o.maxLifetime)
		if err != nil {
			return nil, errors.New("--max-lifetime is not a duration such as 15m")
		}
		m.MaxLifetime = caddy.Duration(lifetime)
	}
	return m, nil
}

func (o *createOptions) readSettings(cmd *cobra.Command) (*config.Messenger, error) {
	var text []byte
	var err error
	if o.settings == "-" {
		text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), admin.MaxAdminBody+1))
	} else {
		text, err = config.ReadArgument(o.settings)
	}
	if err != nil {
		return nil, fmt.Errorf("--settings %w", err)
	}
	if len(text) > admin.MaxAdminBody {
		return nil, fmt.Errorf("--settings has more than %d KiB", admin.MaxAdminBody>>10)
	}
	m := new(config.Messenger)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(m); err != nil {
		if _, member, unknown := strings.Cut(err.Error(), "json: unknown field "); unknown {
			return nil, fmt.Errorf("--settings: unknown member %s", member)
		}
		return nil, errors.New("--settings is not JSON of the form that show --json prints under \"settings\"")
	}
	return m, nil
}
