// Package session bounds how long a verified connection may stay open.
//
// A [Tracker] knows every guarded connection of the process, and ends each of them at its deadline, or when its token or key
// is revoked. A [Connection] passes on the bytes of one connection. It ends a WebSocket with a close frame between two frames,
// and an event stream with a last event between two events, so that the client learns why and no message is cut.
//
// The package knows the standard library only: it does not know Caddy or what a token is. It has no goroutine and no timer for
// a connection, except while it ends one.
//
// Begin reading with [Tracker.Add] and the steps of [Connection]. Where frames and events end is found in frame.go and events.go; the
// timers of deadlines are in due.go.
package session

import "time"

// An Ending is the reason for which a connection ends, in the form of a WebSocket close frame (RFC 6455 section 7.4).
type Ending struct {
	Code   int
	Reason string // one word for programs, at most 123 bytes
}

// The endings of this gateway, in the order of the documented table. Codes from 4000 to 4999 belong to applications.
var (
	Expired  = Ending{4401, "token_expired"}
	Revoked  = Ending{4403, "token_revoked"}
	Limit    = Ending{4408, "session_limit"}
	TooMany  = Ending{4429, "too_many_connections"}
	Shutdown = Ending{1001, "shutdown"} // going away (RFC 6455 section 7.4.1)
)

// A Subject identifies the contact, token and key of a connection. Two connections with the same messenger and identity belong
// to the same contact.
type Subject struct {
	Messenger string
	Identity  string
	TokenID   string    // names the token; empty if it has none
	Key       string    // names the key that signed the token
	Issued    time.Time // zero if the token does not say
	Origin    *Origin   // of the messenger when the token was verified
}

// An Origin is the state of the messenger when a connection was opened. It distinguishes a messenger from one that was deleted
// and created again with its name, and a key that was removed together with its connections from one that was only replaced.
// It is shared by many connections, and never changes.
type Origin struct {
	Created  time.Time // of a stored messenger; zero for a configured one
	Closings uint64    // how often connections were to be closed with a change of keys
}

// A Deadline is when a connection has to end. The instant is between From and To, evenly distributed over the connections, so
// that their clients do not all reconnect in the same second. The zero Deadline means never.
type Deadline struct {
	From, To time.Time
	Ending   Ending
}

// An Ender ends one connection. A [Tracker] calls End at most once; it may block as long as a stalled client does.
type Ender interface{ End(Ending) }
