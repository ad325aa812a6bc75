package authn

import (
	"bytes"
	"math"
	"strconv"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// whatIdentity describes value, the JSON of an identity that is neither a string nor an integer. Libraries write IDs in these
// forms without being asked; the cause names the usual ones with what to do in the language that made them.
func whatIdentity(value []byte) cause.Cause {
	switch value[0] {
	case '[':
		return cause.IdentityArray
	case '{':
		return whatObject(value)
	case 't', 'f':
		return cause.IdentityBoolean
	case 'n':
		return cause.IdentityNull
	}
	number, err := strconv.ParseFloat(string(value), 64)
	switch {
	case string(value) == "-0":
		return cause.IdentityNegativeZero
	case err != nil || math.Abs(number) > 1<<53:
		return cause.IdentityRounded
	case bytes.ContainsAny(value, "eE"):
		return cause.IdentityExponent
	}
	return cause.IdentityFraction
}

// whatObject recognizes the objects in which libraries write one value.
func whatObject(value []byte) cause.Cause {
	members := make(map[string]bool)
	_ = strictjson.Object(value, func(name, _ []byte) {
		if len(members) < 8 { // none of them has more
			members[string(name)] = true
		}
	})
	switch {
	case members["$oid"]:
		return cause.IdentityObjectID
	case members["$numberLong"], members["low"] && members["high"]:
		return cause.IdentityLong
	case members["$binary"], members["type"] && members["data"]:
		return cause.IdentityBuffer
	}
	return cause.IdentityObject
}
