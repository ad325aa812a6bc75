package config

import (
	"errors"
)

// Mode says what happens to requests that a messenger guards.
type Mode string

// The modes of a messenger.
const (
	ModeRequired Mode = "required"
	ModeOptional Mode = "optional"
	ModeReport   Mode = "report"
	ModeOff      Mode = "off"
)

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
