package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// In JSON a number alone is nanoseconds. An operator who means seconds is told so at the load, for every option.
func TestDurationsInJSONNeedTheirUnit(t *testing.T) {
	m := methods(t)[0]
	g := newGateway(t, newUpstream(t), "http://")
	adapted := g.conf(g.caddyfile("messenger {\n poll_interval 2s\n store_max_age 1h\n assertion_issuer https://chat.example.com\n}\n"+m.messengers, `
		messenger_auth support {
			ticket_path /ticket
			ticket_lifetime 30s
			token_from ticket ticket
			token_from header Authorization Bearer
			contact_limit {
				requests 60/1m
			}
			assertion {
				audience backend
				lifetime 1m
			}
		}
		respond hello
	`))
	g.replace(adapted)
	for _, name := range []string{"poll_interval", "store_max_age", "ticket_lifetime", "window", "lifetime"} {
		member := regexp.MustCompile(fmt.Sprintf(`"%s":[0-9]+`, name))
		if !member.Match(adapted) {
			t.Fatalf("the configuration has no %s: %s", name, adapted)
		}
		err := caddy.Load(member.ReplaceAll(adapted, fmt.Appendf(nil, `"%s":3600`, name)), true)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s of 3600: %v", name, err)
		}
	}
}
