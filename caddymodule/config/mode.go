package config

import (
	"errors"
)

// Mode is what happens to the requests for a messenger.
type Mode string

// The modes of a messenger.
const (
	ModeRequired Mode = "required"
	ModeOptional Mode = "optional"
	ModeReport   Mode = "report"
	ModeOff      Mode = "off"
)

// Check returns an error if m is not a mode; "" is valid and means the default.
func (m Mode) Check() error {
	switch m {
	case "", ModeRequired, ModeOptional, ModeReport, ModeOff:
		return nil
	}
	return errors.New("is none of required, optional, report, off")
}

// Or returns m, or fallback if m is not set.
func (m Mode) Or(fallback Mode) Mode {
	if m == "" {
		return fallback
	}
	return m
}
