package command

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keytext"
)

// createOptions are the flags of "caddy messenger create".
type createOptions struct {
	client
	settings string
	kids     []string
	algs     []string // of the public keys
	replace  bool
	previous string // --keep-previous: how long the replaced method stays in use
	confirm  int
}

func createCommand() *cobra.Command {
	var o createOptions
	cmd := o.canBeOffline(o.jsonFlag(o.command(&cobra.Command{
		Use:   "create <messenger>",
		Short: "Creates or replaces a stored messenger, without a reload",
		Long: `
Creates a messenger in Caddy's storage. From then on, a messenger_auth whose
messenger is a placeholder, such as {labels.2}, uses it. The configuration is
not reloaded, and no connection is closed.

Give --identity-key or --identity-path, and exactly one of --public-key,
--jwks, --jwks-discovery and --shared-token. The flags have the names of the
options in the Caddyfile, with the name of the block in front of those in a
block (--jwks-timeout). With --settings the settings are read instead from a
file, or from standard input (-), as the JSON that "show --json" prints under
"settings".

A messenger with --shared-token has no token yet: generate the first one with
caddy messenger tokens generate <messenger>.

With --replace the settings of a stored messenger are replaced. With flags,
max_session, fail_limit and how a key set is fetched stay as they are unless
they are given; an empty value sets the default, and is refused without
--replace. With --settings everything is replaced. The shared tokens stay unless
the method changes.

If another method, key or key set replaces what the messenger has, tokens that
are signed with the old one would be refused at once. --keep-previous keeps the
old method in use for that time; the same flag on an unchanged method extends
the time, and never shortens it. Without it, the command says how many keys and
shared tokens the change takes out of use, and makes it with --confirm and that
number.`,
	}, thisMessenger, o.create)))
	f := cmd.Flags()
	f.StringVar(&o.settings, "settings", "", "A `file` with all settings as JSON, or - for standard input")
	settingFlags(f)
	f.StringArrayVar(&o.kids, "kid", nil, "The `kid` of the first public key, of the second if repeated, and so on")
	f.StringArrayVar(&o.algs, "alg", nil, "The `algorithm` of the first public key, of the second if repeated, and so on (default RS256)")
	mayBeEmpty(cmd, "kid", "is for a key without")
	mayBeEmpty(cmd, "alg", "is the default")
	f.StringVar(&o.previous, "keep-previous", "", "With --replace: the `duration` for which the method that is replaced stays in use, such as 24h")
	f.IntVar(&o.confirm, "confirm", 0, "With --replace: the `number` of keys and shared tokens that the change takes out of use")
	f.BoolVar(&o.replace, "replace", false, "Replace the settings of a stored messenger")
	return cmd
}

// settingFlags adds a flag for each setting.
func settingFlags(f *pflag.FlagSet) {
	for _, setting := range config.Settings {
		if setting.Flag == "" {
			continue
		}
		usage := setting.Flag
		if setting.Default != "" {
			usage += " (default " + setting.Default + ")"
		}
		flag := flagOf(setting)
		switch {
		case setting.Name == "shared_token":
			f.Bool(flag, false, usage)
		case setting.IsList():
			f.StringArray(flag, nil, usage)
		default:
			f.String(flag, "", usage)
		}
		_ = f.SetAnnotation(flag, emptyHasMeaning, nil) // with --replace; see checkEmpty
	}
}

func (o *createOptions) create(cmd *cobra.Command, name string) error {
	settings, err := o.read(cmd)
	if err != nil {
		return err
	}
	condition := "If-None-Match: *"
	if !o.replace && (o.previous != "" || o.confirm != 0) {
		return errors.New("--keep-previous and --confirm are for --replace: a new messenger replaces nothing")
	}
	if o.replace {
		var current admin.Description
		if err := o.do(http.MethodGet, "messengers/"+name, "", nil, &current); err != nil {
			return err
		}
		condition = `If-Match: "` + current.Revision + `"`
		if current.Revision == "" {
			condition = "" // the messenger is in the configuration; the error of the PUT says so
		}
		if o.settings == "" && current.Settings != nil {
			keep(cmd, settings, current.Settings)
			if o.previous == "" && settings.SameMethod(current.Settings) {
				settings.Previous = current.Settings.Previous
			}
		}
	}
	var made admin.Description
	if err := o.do(http.MethodPut, "messengers/"+name+o.query(), condition, settings, &made); err != nil {
		return withFlag(err, "--confirm, --keep-previous")
	}
	return show(&o.client, cmd, &made, messengerText)
}

// query returns the query of the request, with keep_previous and confirm.
func (o *createOptions) query() string {
	values := make(url.Values)
	if o.previous != "" {
		values.Set("keep_previous", o.previous)
	}
	if o.confirm != 0 {
		values.Set("confirm", strconv.Itoa(o.confirm))
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// withFlag adds the names of flags to the error of a change that has to be confirmed: these flags confirm it.
func withFlag(err error, flags string) error {
	if answer, ok := errors.AsType[caddy.APIError](err); ok && answer.HTTPStatus == http.StatusPreconditionRequired {
		answer.Err = fmt.Errorf("%w (%s)", answer.Err, flags)
		return answer
	}
	return err
}

// read returns the settings that the flags or the file give.
func (o *createOptions) read(cmd *cobra.Command) (*config.Messenger, error) {
	if cmd.Flags().Changed("settings") {
		return o.readSettings(cmd)
	}
	files, _ := cmd.Flags().GetStringArray("public-key")
	if len(o.kids) > len(files) {
		return nil, errors.New("--kid is given more often than --public-key; each is the kid of one key")
	}
	if len(o.algs) > len(files) {
		return nil, errors.New("--alg is given more often than --public-key; each is the algorithm of one key (that of shared tokens is --shared-token-alg)")
	}
	if err := o.checkEmpty(cmd); err != nil {
		return nil, err
	}
	m := new(config.Messenger)
	for _, setting := range config.Settings {
		if setting.Flag == "" {
			continue
		}
		lines, err := o.linesOf(cmd, setting)
		for _, args := range lines {
			if err == nil {
				err = setting.Read(m, args)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %w", flagOf(setting), err)
		}
	}
	return m, nil
}

// checkEmpty refuses settings that are given and empty, unless they set the default: a messenger that is created would lack what the
// caller wanted to restrict, and so would one of which one of several values is empty.
func (o *createOptions) checkEmpty(cmd *cobra.Command) error {
	for _, setting := range config.Settings {
		if setting.Flag == "" {
			continue
		}
		f := cmd.Flags().Lookup(flagOf(setting))
		if !f.Changed || !isEmpty(f) {
			continue
		}
		if list, ok := f.Value.(pflag.SliceValue); !o.replace || ok && len(list.GetSlice()) > 1 {
			return fmt.Errorf("--%s is empty; give it a value, or leave it out (alone, and with --replace, an empty value sets the default)", f.Name)
		}
	}
	return nil
}

// flagOf returns the name of the flag of a setting. It is the name of the option with hyphens.
func flagOf(s config.Setting) string {
	return strings.NewReplacer("_", "-", " ", "-").Replace(s.Name)
}

// linesOf returns the values of the flags of a setting as the arguments of lines in a Caddyfile. Empty values are left out.
func (o *createOptions) linesOf(cmd *cobra.Command, s config.Setting) (lines [][]string, err error) {
	flag := flagOf(s)
	switch {
	case s.Name == "public_key":
		return o.keyLines(cmd, flag)
	case s.Name == "shared_token":
		if given, err := cmd.Flags().GetBool(flag); err != nil || !given {
			return nil, err
		}
		return [][]string{{}}, nil
	case s.IsText():
		return o.certificateLines(cmd, flag)
	case s.HasSecrets():
		return o.headerLines(cmd, flag)
	case s.IsList():
		values, err := cmd.Flags().GetStringArray(flag)
		if err != nil || len(values) == 0 || values[0] == "" {
			return nil, err
		}
		return [][]string{values}, nil
	default:
		value, err := cmd.Flags().GetString(flag)
		if err != nil || value == "" {
			return nil, err
		}
		return [][]string{{value}}, nil
	}
}

func (o *createOptions) keyLines(cmd *cobra.Command, flag string) (lines [][]string, err error) {
	files, err := cmd.Flags().GetStringArray(flag)
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		found, err := config.ReadArgument(file)
		if err != nil {
			return nil, err
		}
		text, err := keytext.Portable(found.Whole)
		if err != nil {
			return nil, err
		}
		line := []string{text}
		if i < len(o.kids) && o.kids[i] != "" {
			line = append(line, "kid", o.kids[i])
		}
		if i < len(o.algs) && o.algs[i] != "" {
			line = append(line, "alg", o.algs[i])
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// certificateLines reads the file with the certificates of an authority.
func (o *createOptions) certificateLines(cmd *cobra.Command, flag string) (lines [][]string, err error) {
	file, err := cmd.Flags().GetString(flag)
	if err != nil || file == "" {
		return nil, err
	}
	found, err := config.ReadArgument(file)
	if err != nil {
		return nil, err
	}
	text, err := keytext.PortableCertificates(found.Whole)
	return [][]string{{text}}, err
}

// headerLines reads headers for a key server. It resolves the placeholders in them, because a stored messenger has values and no
// placeholders. With placeholders a secret need not be on the command line, which the shell's history and the list of processes show.
func (o *createOptions) headerLines(cmd *cobra.Command, flag string) (lines [][]string, err error) {
	values, err := cmd.Flags().GetStringArray(flag)
	if err != nil {
		return nil, err
	}
	for _, value := range values {
		if value == "" {
			continue // sets the default: no headers
		}
		header, err := config.ParseHeaderLine(value)
		if err != nil {
			return nil, err
		}
		if header, err = header.Resolved(); err != nil {
			return nil, err
		}
		lines = append(lines, []string{header.Name, string(header.Value)})
	}
	return lines, nil
}

// keep copies the settings that --replace keeps from the former ones, unless their flags are given.
func keep(cmd *cobra.Command, m, former *config.Messenger) {
	for _, setting := range config.Settings {
		if setting.Kept && !cmd.Flags().Changed(flagOf(setting)) {
			setting.CopyFrom(m, former)
		}
	}
}
