package command

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

const (
	completionWait  = 2 * time.Second // a person waits at the prompt
	completionNames = 100
)

// complete returns the messengers whose names begin with what was typed, for the completion of a shell. It is silent if the
// gateway cannot be asked: an error cannot be shown in the middle of a line that is being typed.
func (c *client) complete(_ *cobra.Command, args []string, typed string) (names []string, _ cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	// Other text may be a token or a secret, which must not get into a URL.
	if len(args) > 0 || c.offline || typed != "" && config.CheckName(typed) != nil || silence() != nil {
		return nil, directive
	}
	query := url.Values{"search": {typed}, "limit": {"1000"}}
	var list []admin.Description
	err := answerWithin(completionWait, "", func() error {
		return c.do(http.MethodGet, "messengers?"+query.Encode(), "", nil, &list)
	})
	if err != nil {
		return nil, directive // list may still be written
	}
	for _, d := range list {
		if len(names) < completionNames && strings.HasPrefix(d.Name, strings.ToLower(typed)) {
			names = append(names, d.Name)
		}
	}
	return names, directive
}
