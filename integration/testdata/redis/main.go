// Command redis is the gateway with a storage that several nodes share, as xcaddy builds it with one more plugin.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pberkel/caddy-storage-redis"

	_ "github.com/messengerauth/caddy-messenger-auth"
)

func main() { caddycmd.Main() }
