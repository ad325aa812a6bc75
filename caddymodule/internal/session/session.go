// Package session bounds how long a verified connection may live.
//
// A [Tracker] knows every guarded connection of the process, and ends each of them when its right to be there ends: when
// its time has come, or because somebody asks for it. A [Connection] is the way of one such connection's bytes. It ends a
// WebSocket with a close frame between two frames, and an event stream with a last event between two events, so that the
// client learns why and nothing is torn in the middle.
//
// The package knows the standard library only: neither Caddy nor what a token is. It starts no goroutine and no timer for
// a connection, except while it ends one.
package session

import "time"

// An Ending is why a connection ends, as a WebSocket says it (RFC 6455 section 7.4).
type Ending struct {
	Code   int
	Reason string // one word for programs, at most 123 bytes
}

// The endings of this gateway. Codes from 4000 to 4999 belong to applications.
var (
	Expired = Ending{4401, "token_expired"}
	Revoked = Ending{4403, "token_revoked"}
	Limit   = Ending{4408, "session_limit"}
)

// endings are all of them, as the README documents them.
var endings = []Ending{Expired, Revoked, Limit}

// A Subject is whose connection it is. Two connections with the same messenger and identity are the same contact's.
type Subject struct {
	Messenger string
	Identity  string
	TokenID   string    // names the token; empty if it has none
	Key       string    // names the key that signed the token
	Issued    time.Time // zero if the token does not say
	Origin    *Origin   // of the messenger when the token was verified
}

// An Origin is the state of a messenger that a connection was opened under. It tells a messenger from one that was deleted
// and created again under its name, and a key that was withdrawn with the wish to close its connections from one that was
// only replaced. It is shared by many connections, and never changes.
type Origin struct {
	Created  time.Time // of a stored messenger; zero for a configured one
	Closings uint64    // how often connections were to be closed with a change of keys
}

// A Deadline is when a connection ends by itself. The instant is somewhere from From to To, evenly spread over the
// connections, so that they do not all come back in one second. The zero Deadline never comes.
type Deadline struct {
	From, To time.Time
	Ending   Ending
}

// An Ender ends one connection. End is called at most once by a [Tracker]; it may take as long as a stalled client.
type Ender interface{ End(Ending) }
