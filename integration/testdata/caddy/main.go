// Command caddy is the gateway as its users have it, built by the tests of its commands.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/messengerauth/caddy-messenger-auth"
)

func main() { caddycmd.Main() }
