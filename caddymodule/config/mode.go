package config

import (
	"errors"
	"slices"
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

// A Choice is one of the few values that a setting can have.
type Choice struct {
	Value, Label string
	Help         string // what it does; continues the label
}

// Modes are all modes, the default first.
var Modes = []Choice{
	{string(ModeRequired), "Required", "requests without a valid token are refused"},
	{string(ModeOptional), "Optional", "requests without a token are anonymous; invalid tokens are refused"},
	{string(ModeReport), "Report only", "nothing is refused; the log says what would be"},
	{string(ModeOff), "Off", "tokens are not verified"},
}

// Check returns an error if m is not a mode; "" is valid and means the default.
func (m Mode) Check() error {
	if m == "" || slices.ContainsFunc(Modes, func(c Choice) bool { return c.Value == string(m) }) {
		return nil
	}
	return errors.New("is not one of: required, optional, report, off")
}

// Label returns the name of the mode in the control panel.
func (m Mode) Label() string {
	for _, c := range Modes {
		if c.Value == string(m) {
			return c.Label
		}
	}
	return string(m)
}

// Or returns m, or fallback if m is not set.
func (m Mode) Or(fallback Mode) Mode {
	if m == "" {
		return fallback
	}
	return m
}
