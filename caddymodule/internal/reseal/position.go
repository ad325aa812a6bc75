package reseal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
)

// ErrPosition is the error for a position that no step has returned. A run from a misspelled position would skip the values before it, and
// report that everything is done.
var ErrPosition = errors.New("\"after\" (--after) is not a position that a step of reseal has given; leave it out to begin with the first value")

// positionAfter returns the position after a unit: a checksum, and the unit. A position without a checksum could not be checked: the unit may
// have been deleted since, and a misspelled name may be a valid one. The result needs no quotes in a shell, whatever the name of
// a foreign unit is.
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
