// Command caddy is Caddy with the gateway in it, as xcaddy builds it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/messengerauth/caddy-messenger-auth"
)

func main() { caddycmd.Main() }
