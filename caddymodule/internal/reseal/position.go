package reseal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
)

// ErrPosition refuses to begin after a position that no step gave. A run from a misspelled one would leave out what is before it, and
// say that everything is done.
var ErrPosition = errors.New("\"after\" (--after) is not a position that a step of reseal has given; leave it out to begin with the first value")

// positionAfter returns the position after a unit: a checksum, and the unit. Whether a unit exists cannot decide if a position is
// valid: it may have been deleted since, and most misspelled names are names of messengers that may exist. Foreign units can have any
// name, and people paste positions into a shell: nothing in it needs quotes.
func positionAfter(unit string) string {
	sum := sha256.Sum256([]byte(unit))
	return hex.EncodeToString(sum[:4]) + "-" + url.QueryEscape(unit)
}

// parsePosition returns the unit after which a step begins, or "" for the first step.
func parsePosition(position string) (unit string, err error) {
	if position == "" {
		return "", nil
	}
	_, escaped, _ := strings.Cut(position, "-")
	unit, err = url.QueryUnescape(escaped)
	if err != nil || unit == "" || positionAfter(unit) != position {
		return "", ErrPosition
	}
	return unit, nil
}
