package authn

import "slices"

// A Code identifies the cause of a rejection for clients. The set is closed, and documented in docs/errors.md.
type Code string

// The codes, in the order of their documentation. Everything that clients and operators read about them, and what the gateway does
// about them, is in the table in codetable.go, and nowhere else.
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
	TokenRevoked         Code = "token_revoked"
	OriginNotAllowed     Code = "origin_not_allowed"
	ProtocolNotAllowed   Code = "protocol_not_allowed"
	TicketInvalid        Code = "ticket_invalid"
	TicketExpired        Code = "ticket_expired"
	TicketUsed           Code = "ticket_used"
	TicketRequestInvalid Code = "ticket_request_invalid"
	MessengerUnknown     Code = "messenger_unknown"
	KeysUnavailable      Code = "keys_unavailable"
	StoreUnavailable     Code = "store_unavailable"
	TooManyFailures      Code = "too_many_failures"
	TooManyConnections   Code = "too_many_connections"
	TooManyRequests      Code = "too_many_requests"
)

// A CodeInfo is the row of a code. Its sentences are constant: they say what is wrong and how to fix it, and contain nothing that was
// received or configured.
type CodeInfo struct {
	Code Code
	Handling
	Title  string // RFC 9457 "title", and error_description of the challenge
	Detail string // RFC 9457 "detail": for those who sent the token
	Advice string // in the log: what the operator of the gateway can do when the code comes up often; a clause without a full stop

	// For the page docs/errors.md, which names options: Markdown in whole sentences, without line breaks and vertical bars.
	Cause string // everything that leads to this code
	Fix   string // what to do about it
}

// Handling is what the gateway and clients do about a code. Rows give all of its values in their order, so that none can be left out.
type Handling struct {
	// Status is the HTTP status of the answer.
	Status int

	// Close is the code with which a WebSocket is closed in place of the status, with websocket_rejection close.
	Close int

	// Forged says that the token was not signed for this messenger, as far as the code tells: fail_limit counts it.
	Forged bool

	// Renewable says that a page may get further with another token or ticket: messenger-auth.js asks for one and tries again.
	Renewable bool
}

// The values of rows. The close codes are those of connections that were open, which package session and the registry have, so that
// a page needs no second list: a test of package auth compares them.
const (
	closeLater     = 1013
	closeRefused   = 4401
	closeForbidden = 4403
	closeTooMany   = 4429

	forged, notForged       = true, false
	renewable, notRenewable = true, false
)

// Codes returns all codes in alphabetical order.
func Codes() []Code {
	codes := make([]Code, 0, len(codeTable))
	for i := range codeTable {
		codes = append(codes, codeTable[i].Code)
	}
	slices.Sort(codes)
	return codes
}

// CodeTable returns the rows of all codes in the order of the documentation.
func CodeTable() []CodeInfo { return slices.Clone(codeTable[:]) }

// Info returns the row of c, or the zero CodeInfo for text that is not a code.
func (c Code) Info() CodeInfo {
	for i := range codeTable {
		if codeTable[i].Code == c {
			return codeTable[i]
		}
	}
	return CodeInfo{}
}
