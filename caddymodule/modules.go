// Package caddymodule builds all Caddy modules of the gateway into a program: import it for its side effects. The packages
// below it, from the top floor down; imports go down only, and a test computes that:
//
//	command                        caddy messenger …
//	panel                          messenger_panel, the control panel
//	admin                          what operators may do, and the admin API
//	auth, messenger                messenger_auth, which decides each request; the app "messenger", messenger_health and messenger_jwks
//	internal/reseal                seals everything again with the first store key; replaces what cannot be opened
//	internal/registry              which messengers there are right now, configured and stored
//	internal/change                changes of one messenger in the store, and which of several simultaneous ones succeeds
//	internal/keysets               copies of key sets in the store, and which were distrusted
//	internal/succession            whether a site still signs with a shared token that expires soon
//	internal/transfer              the file in which messengers are carried from one store to another
//	internal/upstream              the header contract with the backend
//	internal/samples               the programs that site developers copy
//	internal/assertion             tokens that the gateway signs for backends, and their keys
//	internal/apierror              errors with a status of HTTP, as the admin API answers them
//	internal/ledger                what the store's facts say about one messenger
//	internal/revocation            one revocation: which tokens it revokes, and for how long
//	internal/keyfile               keys of the configuration, and changes of their files
//	internal/lastuse               when shared tokens were last used
//	config                         settings as an operator writes them
//	internal/vault                 facts and other values in Caddy's storage, and which of them other nodes have changed
//	internal/metrics               what is counted
//	internal/routing               keeps Caddy from dropping our directives from named routes
//	internal/printlog              loggers for lines whose text comes from outside
//	internal/diagnose              which mistake is behind a refused token
//	internal/authn                 raw request to verified contact
//	internal/sigkey                keys that verify signatures, each with its algorithm
//	internal/rsaverify             RSA signatures, with keys that are prepared once
//	internal/keyserver             what a key server publishes, over HTTP
//	internal/buildinfo             the versions from which the program was built
//	internal/keytext               the forms in which people have a public key
//	internal/sharedtoken           the text of a shared token
//	internal/ticket                tickets in place of tokens, each used at most once
//	internal/session, strictjson   connections with a deadline; JSON that every parser reads alike
//	internal/bytecache, recent     byte strings that cost the garbage collector nothing; what was used lately
//	internal/nameindex, namelock   the names of stored messengers; locks by name
//	internal/trail, turnstile      the actions and latest entries of the audit log; how many do something at a time
//	internal/printable, ascii      text of others, escaped; names of protocols, compared
//	widget                         messenger-auth.js, as the panel hands it out
//	internal/cause                 the texts about each mistake
//	internal/configtest            messengers with every setting, and tokens, for tests
//	internal/testsize              how much a test does, for tests
//
// To read how a request is decided, begin with auth.Handler.ServeHTTP; the comment of package auth also says where to look for what.
// How a change reaches the other nodes is in the comment of package registry.
//
// The modules' IDs, their JSON and their Caddyfile syntax are stable. The Go API of these packages is not: it is exported so that its
// documentation can be read, and may change with every release.
package caddymodule

import (
	_ "github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	_ "github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	_ "github.com/messengerauth/caddy-messenger-auth/caddymodule/command"
	_ "github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
	_ "github.com/messengerauth/caddy-messenger-auth/caddymodule/panel"
)
