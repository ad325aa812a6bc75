// Command plain is Caddy without the gateway, as xcaddy builds it, and with one small handler that checks a signature with the
// standard library. What the gateway costs by being linked does not hide in what it is compared with.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
