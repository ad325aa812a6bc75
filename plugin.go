// Package messengerauth makes a Caddy server the gateway in front of a chat backend: it verifies the JWT with which a
// customer's chat widget speaks, and forwards the verified contact identity as a header that clients cannot set.
//
// Build it into Caddy with xcaddy; the README shows how, and caddymodule/docs documents the directive messenger_auth and the global
// option messenger.
package messengerauth

import _ "github.com/messengerauth/caddy-messenger-auth/caddymodule" // registers the Caddy modules
