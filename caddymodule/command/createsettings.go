package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// readSettings reads all settings from one text. A flag beside it would be a restriction that is not there.
func (o *createOptions) readSettings(cmd *cobra.Command) (*config.Messenger, error) {
	flags := []string{"kid", "alg"}
	for _, setting := range config.Settings {
		if setting.Flag != "" {
			flags = append(flags, flagOf(setting))
		}
	}
	for _, flag := range flags {
		if cmd.Flags().Changed(flag) {
			return nil, fmt.Errorf("--settings cannot be combined with --%s: put it into the settings, or give flags alone", flag)
		}
	}
	text, err := o.settingsText(cmd)
	if err != nil {
		return nil, fmt.Errorf("--settings %w", err)
	}
	m, err := config.DecodeSettings(text)
	if err != nil {
		return nil, fmt.Errorf("--settings %w", err)
	}
	return m, nil
}

func (o *createOptions) settingsText(cmd *cobra.Command) (text []byte, err error) {
	if o.settings == "-" {
		text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), admin.MaxAdminBody+1))
	} else {
		var found config.FileText
		found, err = config.ReadArgument(o.settings)
		text = found.Text
	}
	if err == nil && len(text) > admin.MaxAdminBody {
		err = fmt.Errorf("has more than %d KiB", admin.MaxAdminBody>>10)
	}
	return text, err
}
