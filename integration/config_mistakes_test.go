package integration

import (
	"regexp"
	"strings"
	"testing"
)

// A badConfig is a configuration that must not load, and what its error must say: the option, and how to mend it.
type badConfig struct {
	name       string
	messengers string // KEY is a line with a valid method
	site       string // "" is the directive alone
	want       []string
	atLoad     bool // it shows when keys are read; there is no line of the Caddyfile then, and the messenger is named
}

// inMessenger are options of a messenger that is valid without them.
func inMessenger(name, options string, want ...string) badConfig {
	return badConfig{name: name, messengers: "messenger support {\n identity_key identity\n KEY\n " + options + "\n}", want: want}
}

// inDirective are options of the directive.
func inDirective(name, options string, want ...string) badConfig {
	m := inMessenger(name, "", want...)
	m.site = "messenger_auth support {\n " + options + "\n}"
	return m
}

func instead(name, options string, want ...string) badConfig {
	return badConfig{name: name, messengers: "messenger support {\n " + options + "\n}", want: want}
}

// inKeySet are options of a key set that is valid without them.
func inKeySet(name, options string, want ...string) badConfig {
	return instead(name, "identity_key identity\n jwks https://login.example.com/keys {\n "+options+"\n }", want...)
}

func atLoad(m badConfig) badConfig {
	m.atLoad = true
	return m
}

var mistakes = []badConfig{
	instead("no identity key", "KEY", "support", "identity_key", "is missing", `"identity_key sub"`),
	instead("a time for an identity key", "KEY\n identity_key exp", "identity_key", `"exp"`, "time claim"),
	instead("a blank in the identity key", "KEY\n identity_key \"a b\"", "identity_key", "letter"),
	instead("two identity keys", "KEY\n identity_key a\n identity_key b", "identity_key", "twice", "keep one"),
	instead("no value", "KEY\n identity_key", "identity_key", "exactly one value"),
	instead("no method", "identity_key identity", "no validation method", "public_key, jwks and shared_token"),
	instead("two methods", "identity_key identity\n shared_token {env.A}\n jwks https://example.com/", "jwks and shared_token", "exactly one"),
	instead("two other methods", "identity_key identity\n shared_token {env.A}\n public_key {env.B}", "public_key and shared_token", "exactly one"),
	instead("two shared tokens", "identity_key identity\n shared_token {env.A}\n shared_token {env.B}", "shared_token", "twice"),
	instead("a literal secret", "identity_key identity\n shared_token SECRET", "shared_token", "{env.NAME}", "{file./path}", "{$NAME}"),
	instead("a secret and a placeholder", "identity_key identity\n shared_token SECRET{env.A}", "shared_token", "{env.NAME}"),
	instead("a placeholder of a request", "identity_key identity\n shared_token {http.request.header.X}", "shared_token", "{env.NAME}"),
	instead("an encoding that is none", "identity_key identity\n shared_token {env.A} base65", "shared_token", "raw, base64, base64url, hex"),
	instead("a secret in two words", "identity_key identity\n shared_token raw SECRET too", "shared_token", "shared_token {env.NAME}"),
	atLoad(instead("an environment variable that is not set", "identity_key identity\n shared_token {env.MESSENGER_NOT_SET}", "shared_token", "{env.MESSENGER_NOT_SET}", "not set")),
	atLoad(instead("a file that is not there", "identity_key identity\n shared_token {file.DIR/missing}", "shared_token", "DIR/missing", "no such file")),
	atLoad(instead("a short secret", "identity_key identity\n shared_token {file.SHORT}", "shared_token", "{file.SHORT}", "32")),
	atLoad(instead("a PEM for a secret", "identity_key identity\n shared_token {file.PEM}", "shared_token", "PEM", "public_key")),
	atLoad(instead("a private key", "identity_key identity\n public_key {file.PRIVATE}", "public_key", "private")),
	atLoad(instead("a file that is no key", "identity_key identity\n public_key {file.SHORT}", "public_key", "{file.SHORT}")),
	instead("a literal that is no key", "identity_key identity\n public_key hello", "public_key", "PEM"),
	instead("a kid without its word", "identity_key identity\n public_key {env.A} 2026", "public_key", "[kid <id>]"),
	atLoad(instead("two keys of one kid", "identity_key identity\n public_key {file.PEM} kid a\n public_key {file.PEM2} kid a", "public_key", "same kid")),
	instead("plain http", "identity_key identity\n jwks http://example.com/keys", "jwks", "https"),
	instead("a secret in a bad URL", "identity_key identity\n jwks http://keys.example.com/?key=SECRET", "jwks", "?key=…", "https"),
	instead("a secret in another bad URL", "identity_key identity\n jwks https://keys.example.com/?key=SECRET#top", "jwks", "?key=…", "fragment"),
	instead("no URL", "identity_key identity\n jwks", "jwks", "neither a URL nor discovery", "discovery https://"),
	instead("metadata for an issuer", "identity_key identity\n jwks {\n discovery https://login.example.com/tenant/.well-known/openid-configuration\n }", "discovery", "issuer alone", "discovery https://login.example.com/tenant"),
	inMessenger("an option of Envoy", "remote_jwks https://login.example.com/keys", `"remote_jwks"`, "jwks"),
	inMessenger("an option of nginx", "auth_jwt_leeway 30s", `"auth_jwt_leeway"`, "clock_skew"),
	instead("a file for a URL", "identity_key identity\n jwks file:///etc/keys", "jwks", "https"),
	instead("an unknown option of jwks", "identity_key identity\n jwks https://example.com/ {\n cache 1h\n }", "jwks", `"cache"`, "unknown option"),
	inKeySet("a header without a placeholder", "header X-Api-Key SECRET", "header X-Api-Key", "{env.NAME}", "{file./path}", "{$NAME}"),
	inKeySet("a header without a value", "header X-Api-Key", "header", "a name and a value"),
	inKeySet("a header with a colon", "header X-Api-Key: {env.A}", "header", "the name of a header", "X-Api-Key"),
	inKeySet("a header and a value in its place", "header SECRET=: {env.A}", "header", "the name of a header"),
	inKeySet("a header of the connection", "header Transfer-Encoding {env.A}", "header Transfer-Encoding", "connection", "remove it"),
	inKeySet("the host as a header", "header host {env.A}", "header host", "the host of the URL"),
	inKeySet("a length", "header Content-Length {env.A}", "header Content-Length", "body", "remove it"),
	inKeySet("an encoding", "header Accept-Encoding gzip", "header Accept-Encoding", "set by the gateway", "remove it"),
	inKeySet("a condition", "header If-None-Match {env.A}", "header If-None-Match", "set by the gateway"),
	inKeySet("a header twice", "header X-Api-Key {env.A}\n header x-api-key {env.B}", "header X-Api-Key", "twice"),
	inKeySet("nine headers", strings.Repeat("header X-Api-Key {env.A}\n ", 9), "header is given 9 times", "at most 8"),
	inKeySet("a line break in a header", "header User-Agent `a\nb`", "header User-Agent", "line break"),
	inKeySet("two authorities", "ca /a.pem /b.pem", "ca", "exactly one value"),
	inKeySet("an authority twice", "ca /a.pem\n ca /b.pem", "ca", "twice"),
	inMessenger("an authority outside of its block", "ca /a.pem", `"ca"`, "belongs into", "jwks"),
	atLoad(inKeySet("a variable that is not set, in a header", "header X-Api-Key {env.MESSENGER_NOT_SET}", "jwks header X-Api-Key", "{env.MESSENGER_NOT_SET}")),
	atLoad(inKeySet("a file that is not there, in a header", "header Authorization \"Bearer {file.DIR/missing}\"", "jwks header Authorization", "DIR/missing", "no such file")),
	atLoad(inKeySet("an authority that is not there", "ca DIR/missing.pem", "jwks ca DIR/missing.pem", "no such file")),
	atLoad(inKeySet("a relative authority", "ca missing.pem", "jwks ca missing.pem", "write the whole path")),
	atLoad(inKeySet("a private key for an authority", "ca PRIVATE", "jwks ca", "private key")),
	atLoad(inKeySet("a public key for an authority", "ca {file.PEM}", "jwks ca {file.", "not a certificate")),
	atLoad(inKeySet("a secret for an authority", "ca SHORT", "jwks ca", "is not PEM")),
	inMessenger("an unknown option", "identity_keys x", "messenger support", `"identity_keys"`, "unknown option"),
	inMessenger("a mode that is none", "mode on", "mode", `"on"`, "required", "report"),
	inMessenger("no duration", "clock_skew fast", "clock_skew", `"fast"`, "90s"),
	inMessenger("a large skew", "clock_skew 1h", "clock_skew", "5m", "NTP"),
	inMessenger("a negative skew", "clock_skew -1s", "clock_skew", "0s"),
	inMessenger("a type for another purpose", "token_type Logout+JWT", "token_type", `"Logout+JWT"`, "another purpose", "at+jwt"),
	inMessenger("a type that is none", "token_type \"at jwt\"", "token_type", "is not a type", "at+jwt"),
	inMessenger("two types", "token_type JWT at+jwt", "token_type", "exactly one value"),
	inMessenger("a type twice", "token_type JWT\n token_type at+jwt", "token_type", "twice"),
	atLoad(inMessenger("a variable that is not set, in a type", "token_type {env.MESSENGER_NOT_SET}", "token_type", "{env.MESSENGER_NOT_SET}")),
	inMessenger("a negative lifetime", "max_lifetime -1h", "max_lifetime", "negative"),
	atLoad(inMessenger("a variable that is not set, in an issuer", "issuer https://a.example {env.MESSENGER_NOT_SET}", "issuer: value 2", "{env.MESSENGER_NOT_SET}", "empty")),
	atLoad(inMessenger("a missing file in an audience", "audience {file.DIR/missing}", "audience", "DIR/missing", "no such file")),
	atLoad(inMessenger("a folder in an audience", "audience {file.DIR}", "audience", "it is a directory")),
	atLoad(inMessenger("a placeholder of a request in an issuer", "issuer {http.request.host}", "issuer", "{http.request.host}", "unrecognized")),
	atLoad(inMessenger("a variable that is not set, in an origin", "allowed_origin {env.MESSENGER_NOT_SET}", "allowed_origin", "{env.MESSENGER_NOT_SET}")),
	atLoad(instead("a variable that is not set, in an identity key", "KEY\n identity_key {env.MESSENGER_NOT_SET}", "identity_key", "{env.MESSENGER_NOT_SET}")),
	inMessenger("an issuer twice", "issuer a b a", "issuer", `"a"`, "twice"),
	inMessenger("an option with a colon", "issuer: https://a.example", "write issuer and its value", "without : or ="),
	instead("a block for a key", "identity_key identity\n public_key {file.PEM} {\n kid a\n }", "takes no block"),
	inMessenger("an empty audience", `audience ""`, "audience", "empty"),
	inMessenger("claims with commas", "require_claims exp, iat", "require_claims", `"exp,"`, "leave out the commas"),
	inMessenger("claims with commas alone", "contact_claims name,email", "contact_claims", `"name,email"`, "leave out the commas"),
	inMessenger("a quoted list", `audience "chat, support"`, "audience", `"chat, support"`, "leave out the commas"),
	inDirective("media types with commas", "stream_types application/x-ndjson, application/grpc", "stream_types", "leave out the commas"),
	instead("a placeholder with a colon", "identity_key identity\n public_key {file:/etc/caddy/support.pem}", "public_key", "{file./path/to/key.pem}", "{env.NAME}"),
	inMessenger("no audience", "audience", "audience", "at least one"),
	inMessenger("an origin with a path", "allowed_origin https://www.example.com/chat", "allowed_origin", "browsers send no path", "https://www.example.com"),
	inMessenger("an origin with a slash", "allowed_origin https://www.example.com/", "allowed_origin", "browsers send no path", "write https://www.example.com"),
	inMessenger("an origin without a scheme", "allowed_origin www.example.com", "allowed_origin", "scheme"),
	inMessenger("a wildcard", "allowed_origin https://*.example.com", "allowed_origin", "wildcard"),
	inMessenger("any origin", "allowed_origin *", "allowed_origin", "list each"),
	inMessenger("the null origin", "allowed_origin null", "allowed_origin", "list each"),
	inMessenger("an origin in Unicode", "allowed_origin https://bücher.example", "allowed_origin", "xn--"),
	{"a messenger twice", "messenger support {\n identity_key identity\n KEY\n}\nmessenger support {\n identity_key identity\n KEY\n}", "", []string{"messenger support", "twice"}, false},
	{"a name with capitals", "messenger Support {\n identity_key identity\n KEY\n}", "", []string{`"Support"`, "lower-case"}, false},
	{"two names", "messenger a b {\n identity_key identity\n KEY\n}", "", []string{"takes one name"}, false},
	{"an interval that is none", "messenger {\n poll_interval often\n}", "", []string{"poll_interval", `"often"`, "90s"}, false},
	{"an interval that burns the processor", "messenger {\n poll_interval 1ns\n}", "", []string{"poll_interval", "1ms", "unit"}, false},
	atLoad(badConfig{"a URL for a host", "messenger {\n jwks_internal_hosts http://keys.internal\n}", "", []string{"jwks_internal_hosts", `"http://keys.internal"`, "without https://"}, false}),
	atLoad(badConfig{"a host with a path", "messenger {\n jwks_internal_hosts keys.internal/jwks\n}", "", []string{"jwks_internal_hosts", "path"}, false}),
	atLoad(badConfig{"a host with a wildcard", "messenger {\n jwks_internal_hosts *.internal\n}", "", []string{"jwks_internal_hosts", "wildcard"}, false}),
	{"an unknown shared option", "messenger {\n identity_key identity\n}", "", []string{"messenger", `"identity_key"`, "unknown option"}, false},
	atLoad(badConfig{"a directive for nobody", "messenger sales {\n identity_key identity\n KEY\n}", "messenger_auth support", []string{"messenger_auth", `"support"`, "not configured", "sales"}, false}),
	atLoad(badConfig{"a directive without messengers", "", "messenger_auth", []string{"messenger_auth", "0 messengers"}, false}),
	atLoad(badConfig{"a directive that could mean two", "messenger a {\n identity_key identity\n KEY\n}\nmessenger b {\n identity_key identity\n KEY\n}", "messenger_auth", []string{"messenger_auth", "2 messengers", "messenger_auth <messenger>"}, false}),
	inDirective("an unknown option of the directive", "header X", "messenger_auth", `"header"`, "unknown option"),
	inDirective("a source that is none", "token_from body token", "token_from", "header, cookie, query, websocket_protocol"),
	inDirective("no place", "token_from", "token_from", "header <name>"),
	inDirective("a scheme for a cookie", "token_from cookie chat Bearer", "token_from", "cookie <name>"),
	inDirective("a source twice", "token_from cookie chat\n token_from cookie chat", "token_from cookie chat", "twice"),
	inDirective("a cookie in the header", "token_from header Cookie", "token_from", "cookie"),
	inDirective("a header name that is none", `token_from header "a b"`, "token_from", "header name"),
	inDirective("a header name with its colon", "token_from header Authorization: Bearer", "token_from", "header name", "without a colon"),
	inDirective("a token in the identity header", "token_from header x-contact-identity", "token_from header x-contact-identity", "identity_header", "another"),
	inDirective("a token in the header of a claim", "claim_header name X-Name\n token_from header X_Name", "token_from header X_Name", "claim_header name", "another"),
	inDirective("a ticket for a ticket's life", "ticket_lifetime 30s", "ticket_lifetime", "ticket_path"),
	inDirective("a ticket that lives too long", "ticket_path /ticket\n ticket_lifetime 1h", "ticket_lifetime", "5m"),
	inDirective("a ticket path without a slash", "ticket_path ticket", "ticket_path", "slash"),
	inDirective("a ticket path with a query", "ticket_path /ticket?x=1", "ticket_path", "query"),
	inDirective("a ticket path with a wildcard", "ticket_path /ticket/*", "ticket_path", "wildcard"),
	inDirective("a logout path with a placeholder", "logout_path {env.LOGOUT}/out", "logout_path", "slash"),
	inDirective("a logout path with a placeholder in it", "logout_path /{env.LOGOUT}", "logout_path", "placeholder"),
	inDirective("a parameter with a placeholder", "token_from query {env.PARAMETER}", "token_from", "placeholder"),
	inDirective("a claim with a placeholder", "claim_header {env.CLAIM} X-Name", "claim_header", "placeholder"),
	inDirective("a ticket path that is the logout's", "ticket_path /out\n logout_path /out", "ticket_path", "logout_path"),
	inDirective("a ticket and a token in one parameter", "token_from query t\n token_from ticket t", "token_from ticket t", "query", "own"),
	inDirective("a stream type with a parameter", `stream_types "application/x-ndjson; charset=utf-8"`, "stream_types", "without parameters"),
	inDirective("every stream type", "stream_types application/*", "stream_types", "application/x-ndjson"),
	inDirective("a stream type without its half", "stream_types ndjson", "stream_types", "application/x-ndjson"),
	inDirective("a stream type twice", "stream_types application/grpc Application/gRPC", "stream_types", "twice"),
	inDirective("event streams", "stream_types text/event-stream", "stream_types", "always", "leave it out"),
	inDirective("no stream type", "stream_types", "stream_types", "at least one"),
	inDirective("a mode that is none, here", "mode none", "mode", `"none"`, "required"),
	inDirective("forward_token with a value", "forward_token on", "forward_token", "no value"),
	inDirective("an underscore", "identity_header X_Contact", "identity_header", `"X_Contact"`, `use "-"`),
	inDirective("an exclamation mark", "identity_header X!Contact", "identity_header", `"X!Contact"`, `use "-"`),
	inDirective("any other sign", "claim_header name X~Name", "claim_header name", `"X~Name"`, `use "-"`),
	inDirective("a header of HTTP in another spelling", "identity_header X!Forwarded!For", "identity_header", `use "-"`),
	inDirective("a token in the identity header, folded", "token_from header X!Contact!Identity", "token_from header X!Contact!Identity", "identity_header", "another"),
	inDirective("a token in another header of HTTP, folded", "token_from header Sec|WebSocket|Protocol", "token_from header", "websocket_protocol"),
	inDirective("a token's header in two spellings", "token_from header X-Widget-Token\n token_from header X_Widget_Token", "token_from header X_Widget_Token", "X-Widget-Token", "keep one"),
	inDirective("a dot", "messenger_header X.Messenger", "messenger_header", `use "-"`),
	inDirective("one header for two", "messenger_header X-Contact-Identity", "messenger_header", "identity_header"),
	inDirective("one header for two, folded", "claim_header name x-contact-identity", "claim_header name", "identity_header"),
	inDirective("a header of HTTP", "identity_header Host", "identity_header", `"Host"`, "choose another"),
	inDirective("a hop-by-hop header", "identity_header Connection", "identity_header", "choose another"),
	inDirective("a header of proxies", "claim_header name X-Forwarded-For", "claim_header name", "choose another"),
	inDirective("the token's own header", "claim_header name Authorization", "claim_header name", "choose another"),
	inDirective("a claim without a header", "claim_header name", "claim_header", "claim_header name X-Contact-Name"),
	inDirective("a claim twice", "claim_header a X-A\n claim_header a X-B", "claim_header a", "twice"),
	inDirective("a pointer for a claim", "claim_header /user/name X-Name", "claim_header /user/name", "write claim_header path /user/name X-Name"),
	inDirective("a claim for a condition", "claim_header name If-None-Match", "claim_header name", "choose another"),
	inDirective("a claim that overrides the method", "claim_header name X-HTTP-Method-Override", "claim_header name", "choose another"),
	inDirective("a token in the Origin", "token_from header Origin", "token_from header Origin", "meaning in HTTP"),
	inDirective("a token in a header of browsers", "token_from header Sec-Fetch-Site", "token_from header Sec-Fetch-Site", "meaning in HTTP"),
	inDirective("an escaped path", "logout_path /log%6Fut", "logout_path", "escape"),
	inDirective("a path that goes up", "ticket_path /a/../ticket", "ticket_path", `".."`),
	inDirective("a ticket for a ticket", "ticket_path /ticket\n token_from ticket t", "ticket_path", "token_from"),
	inDirective("a window without a unit", "contact_limit {\n requests 3/60ns\n }", "requests", "60/1m"),
	inMessenger("a session without a unit", "max_session 60ns", "max_session", "below 1ms", "unit"),
	{"an age without a unit", "messenger {\n store_max_age 60ns\n}", "", []string{"store_max_age", "below 1ms"}, false},
	inDirective("an encoding of the identity that is none", "identity_encoding base64", "identity_encoding", `"base64"`, "percent, raw"),
	{"two messengers", "", "messenger_auth a b", []string{"messenger_auth", "takes one messenger"}, false},
	{"a messenger that the client chooses", "", "messenger_auth {query.m}", []string{"messenger_auth", "{labels.N}", "{path.N}"}, false},
	{"a messenger from a header", "", "messenger_auth {header.X-Messenger}", []string{"messenger_auth", "{path.N}"}, false},
	{"a messenger from the whole path", "", "messenger_auth {uri}", []string{"messenger_auth", "{path.N}"}, false},
}

// The error about a mistake in the configuration names the option, its line and the fix. A secret of the operator is never in the log.
func TestConfigurationErrorsNameTheFix(t *testing.T) {
	secret := newSecret()
	files := map[string]string{
		"KEY":     "shared_token {file." + write(t, "key", []byte(newSecret())) + "}",
		"SHORT":   write(t, "short", []byte("too short")),
		"PEM2":    write(t, "two.pem", publicPEM(rsaKey(1))),
		"PEM":     write(t, "one.pem", publicPEM(rsaKey(0))),
		"PRIVATE": write(t, "private.pem", privatePEM(rsaKey(0))),
		"SECRET":  secret,
	}
	put := strings.NewReplacer("KEY", files["KEY"], "SHORT", files["SHORT"], "PEM2", files["PEM2"], "{file.PEM}", "{file."+files["PEM"]+"}", "PRIVATE", files["PRIVATE"], "SECRET", secret)
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			site := m.site
			if site == "" {
				site = "messenger_auth"
			}
			text := loadError(t, put.Replace(m.messengers), site+"\nrespond hello")
			for _, want := range m.want {
				if want = put.Replace(want); !strings.Contains(text, want) && !strings.Contains(want, "DIR") {
					t.Errorf("%s\ndoes not say %q", text, want)
				}
			}
			if place := regexp.MustCompile(`Caddyfile:\d+`).MatchString(text); !place && !m.atLoad {
				t.Errorf("%s\ndoes not say where", text)
			}
			if strings.Contains(text, secret) {
				t.Errorf("%s\nquotes the secret", text)
			}
			if testing.Verbose() {
				t.Log(text)
			}
		})
	}
}
