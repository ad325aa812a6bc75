// Command gateway is Caddy with the module, as xcaddy builds it, and with what the nodes of tests need: a storage that fails as tests
// want it, and a clock that they set. It starts in half the time of a program with all of Caddy's modules, because it has no file server,
// which brings templates with it.
package main

import (
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/logging"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/caddyserver/caddy/v2/modules/metrics"
	_ "github.com/pberkel/caddy-storage-redis"

	_ "github.com/messengerauth/caddy-messenger-auth"
)

// With MESSENGER_TEST_CLOCK the process has another wall clock: the file that it names holds how many seconds that is ahead, and may
// change at any time. The monotonic clock stays as it is. The gateway's code knows nothing of it.
func main() {
	if file := os.Getenv("MESSENGER_TEST_CLOCK"); file != "" {
		useClock(file)
	}
	caddycmd.Main()
}
