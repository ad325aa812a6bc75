// Command gateway is Caddy with the module, as xcaddy builds it, and without most of Caddy's own modules: it starts in less than half
// the time of a program that has them all. Tests run their commands with it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	_ "github.com/pberkel/caddy-storage-redis"

	_ "github.com/messengerauth/caddy-messenger-auth"
)

func main() { caddycmd.Main() }
