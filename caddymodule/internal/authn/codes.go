package authn

import (
	"maps"
	"slices"
)

// A Code identifies the cause of a rejection for clients. The set is closed, and documented in docs/errors.md.
type Code string

// The codes. Everything that clients and operators read about them is in the table below, and nowhere else.
const (
	TokenMissing         Code = "token_missing"
	TokenAmbiguous       Code = "token_ambiguous"
	TokenMalformed       Code = "token_malformed"
	TokenTooLarge        Code = "token_too_large"
	AlgorithmNotAllowed  Code = "algorithm_not_allowed"
	KeyUnknown           Code = "key_unknown"
	SignatureInvalid     Code = "signature_invalid"
	TokenExpired         Code = "token_expired"
	TokenNotYetValid     Code = "token_not_yet_valid"
	TokenLifetimeTooLong Code = "token_lifetime_too_long"
	ClaimMissing         Code = "claim_missing"
	ClaimInvalid         Code = "claim_invalid"
	IssuerNotAllowed     Code = "issuer_not_allowed"
	AudienceNotAllowed   Code = "audience_not_allowed"
	IdentityMissing      Code = "identity_missing"
	IdentityInvalid      Code = "identity_invalid"
	OriginNotAllowed     Code = "origin_not_allowed"
	ProtocolNotAllowed   Code = "protocol_not_allowed"
	TokenRevoked         Code = "token_revoked"
	MessengerUnknown     Code = "messenger_unknown"
	TooManyFailures      Code = "too_many_failures"
	TicketInvalid        Code = "ticket_invalid"
	TicketExpired        Code = "ticket_expired"
	TicketUsed           Code = "ticket_used"
	TicketRequestInvalid Code = "ticket_request_invalid"
	TooManyConnections   Code = "too_many_connections"
	TooManyRequests      Code = "too_many_requests"
	KeysUnavailable      Code = "keys_unavailable"
	StoreUnavailable     Code = "store_unavailable"
)

// A CodeInfo has the texts about a code, for clients and for operators. Its sentences are constant: they say what is wrong and how to fix
// it, and contain nothing that was received or configured.
type CodeInfo struct {
	Status int    // of the answer
	Title  string // RFC 9457 "title", and error_description of the challenge
	Detail string // RFC 9457 "detail": for those who sent the token
	Advice string // in the log: what the operator of the gateway can do when the code comes up often
}

var codes = map[Code]CodeInfo{
	TokenMissing: {401, "No token",
		"The request carries no token where this gateway looks for one. Send the token of the logged-in contact there, by default as Authorization: Bearer <token>.",
		"check that the page sends its token where token_from looks; a few of these are visitors who are not logged in"},
	TokenAmbiguous: {400, "More than one token",
		"The request carries more than one token, or one source twice. Send exactly one token in exactly one place.",
		"see what else on the site sends a token to this address, such as an old cookie"},
	TokenMalformed: {401, "Malformed token",
		"The token is not a signed JWT in compact form: three base64url segments without padding, header and payload each one JSON object without duplicate names, the header with a typ that this messenger accepts. Send the token exactly as the library returned it.",
		"have the site owner put the token into: caddy messenger explain"},
	TokenTooLarge: {401, "Token too large",
		"The token is longer than 8 KiB, or its header is longer than 4 KiB. Put fewer claims into it, and no certificates into the header.",
		"have the site owner put fewer claims into the token, and no certificates into its header"},
	AlgorithmNotAllowed: {401, "Algorithm not allowed",
		"The token's algorithm is not one of this messenger's keys. Sign with RS256 for a public key or JWKS and with HS256 for a shared token, or with the algorithm that the messenger names.",
		"compare the messenger's algorithm with how the site signs: RS256 for public_key and jwks, HS256 for shared_token, or what alg and algorithms name"},
	KeyUnknown: {401, "Unknown key",
		"No active key of this messenger matches the token's kid. Sign with a key that the messenger knows, and with its kid.",
		"compare the token's kid with: caddy messenger keys"},
	SignatureInvalid: {401, "Invalid signature",
		"The signature was not made by a key of this messenger over this token. Check that the site signs with this messenger's key, and that the token arrives unchanged.",
		"if one client gets this, it may be an attack; if many do, the site signs with another key: caddy messenger explain"},
	TokenExpired: {401, "Token expired",
		"The token's exp has passed. Fetch a fresh token and try again; if it is fresh, check the clock of the site.",
		"if many clients get this at once, compare the clocks of the site and of this machine; otherwise the page keeps tokens too long"},
	TokenNotYetValid: {401, "Token not yet valid",
		"The token's nbf or iat is in the future. Check the clock of the site.",
		"compare the clocks of the site and of this machine; clock_skew allows for a difference"},
	TokenLifetimeTooLong: {401, "Token lifetime too long",
		"The token is valid for longer than this messenger accepts. Set an earlier exp.",
		"have the site set an earlier exp, or raise max_lifetime"},
	ClaimMissing: {401, "Required claim missing",
		"A claim that this messenger requires is absent or null. Add it to the token.",
		"have the site add the claim, or remove it from require_claims; max_lifetime needs exp and iat"},
	ClaimInvalid: {401, "Invalid claim",
		"exp, nbf or iat is not a NumericDate, or jti is neither a string nor an integer. Write times as JSON numbers of seconds since 1970 (no strings, no milliseconds), and jti as a string.",
		"have the site write times as seconds since 1970, as numbers, and jti as a string: caddy messenger explain"},
	IssuerNotAllowed: {401, "Issuer not allowed",
		"The token's iss is absent or not one that this messenger accepts. It is compared exactly, a final slash included.",
		"compare the token's iss with the option issuer: caddy messenger explain"},
	AudienceNotAllowed: {401, "Audience not allowed",
		"The token's aud is absent or names none that this messenger accepts. It is compared exactly.",
		"compare the token's aud with the option audience: caddy messenger explain"},
	IdentityMissing: {401, "Identity missing",
		"The token does not have the claim that is this messenger's identity key. Add it as a top-level claim under exactly that name.",
		"compare the claims of a token with the option identity_key: caddy messenger explain"},
	IdentityInvalid: {401, "Invalid identity",
		"The identity is not a string or an integer of 1 to 255 bytes, or it has control characters, or it begins or ends with white space. Sign the contact's primary key as it is.",
		"have the site sign the contact's primary key, as a string or an integer"},
	OriginNotAllowed: {403, "Origin not allowed",
		"The page that caused this request is not one that this messenger accepts. Add its origin to allowed_origin.",
		"if the page is yours, add its origin to allowed_origin; otherwise another site tries to act for your visitors"},
	ProtocolNotAllowed: {400, "Protocol not allowed",
		"CONNECT is accepted only to open a WebSocket.",
		"no action needed, unless a client of yours opens other tunnels than WebSockets"},
	TokenRevoked: {401, "Token revoked",
		"This token, or all tokens of this contact that were issued before a certain time, were revoked. Log in again to get a new one.",
		"no action needed if the revocation was meant; otherwise: caddy messenger revocations"},
	MessengerUnknown: {404, "Unknown messenger",
		"There is no messenger at this address. Check the address in the widget's settings.",
		"compare the address with: caddy messenger list; a path with .. or encoded slashes may be an attack"},
	TooManyFailures: {429, "Too many failures",
		"Too many tokens that were not signed for this messenger came from this address. Send tokens of this messenger only, and try again after the time in Retry-After.",
		"if these clients are real, check that trusted_proxies names the proxy in front, and raise fail_limit"},
	TicketInvalid: {401, "Invalid ticket",
		"The ticket was not made by this gateway for this messenger and this path, or was changed on the way. Ask for a new ticket.",
		"if many clients get this, check that all nodes have the same store key; otherwise it may be an attack"},
	TicketExpired: {401, "Ticket expired",
		"The ticket has expired. Ask for a new ticket directly before it is used.",
		"if many clients get this at once, compare the clocks of the nodes; otherwise pages keep tickets too long"},
	TicketUsed: {401, "Ticket used",
		"The ticket was used before. Every request needs a ticket of its own, also when a connection is opened again.",
		"have pages ask for a ticket for each request; EventSource reconnects with the same address"},
	TicketRequestInvalid: {400, "Invalid request for a ticket",
		"The body is not empty and not a JSON object with the one member path, which begins with a slash, has no query and at most 2 KiB. Send no body, or {\"path\": \"/files/7\"}.",
		"have the page send no body, or the path of the request as it will be in its address"},
	TooManyConnections: {429, "Too many connections",
		"This contact has as many WebSockets and event streams open as the gateway allows. Close one, and try again after the time in Retry-After.",
		"if many contacts get this, raise connections in contact_limit: each tab of a page needs one, and messenger-auth.js a second one while it renews"},
	TooManyRequests: {429, "Too many requests",
		"This contact has sent more requests than the gateway allows. Try again after the time in Retry-After.",
		"if many contacts get this, raise requests in contact_limit; if only one does, a program of theirs may be in a loop"},
	KeysUnavailable: {503, "Keys unavailable",
		"The gateway has no key for this messenger at the moment and cannot decide. Try again later.",
		"see which messengers cannot decide, and why: caddy messenger keys, messenger_health"},
	StoreUnavailable: {503, "Store unavailable",
		"The storage did not confirm the change, which may or may not have been made. Try again later.",
		"see the log for the error of the storage"},
}

// Codes returns all codes in alphabetical order.
func Codes() []Code { return slices.Sorted(maps.Keys(codes)) }

// Info returns the entry of c in the table.
func (c Code) Info() CodeInfo { return codes[c] }
