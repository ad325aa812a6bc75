package config

import (
	"cmp"
	"errors"
	"slices"
	"strings"
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

// Values returns the values of choices, in their order.
func Values(choices []Choice) []string {
	values := make([]string, len(choices))
	for i, c := range choices {
		values[i] = c.Value
	}
	return values
}

// valuesText returns the values of choices as a text: "required, optional, report or off".
func valuesText(choices []Choice) string {
	values := Values(choices)
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// labelOf returns the label of a value, or "" if no choice has it.
func labelOf(choices []Choice, value string) string {
	for _, c := range choices {
		if c.Value == value {
			return c.Label
		}
	}
	return ""
}

// Check returns an error if m is not a mode; "" is valid and means the default.
func (m Mode) Check() error {
	if modes := Values(Modes); m != "" && !slices.Contains(modes, string(m)) {
		return errors.New("is not one of: " + strings.Join(modes, ", "))
	}
	return nil
}

// Label returns the name of the mode in the control panel.
func (m Mode) Label() string { return cmp.Or(labelOf(Modes, string(m)), string(m)) }

// Or returns m, or fallback if m is not set.
func (m Mode) Or(fallback Mode) Mode {
	if m == "" {
		return fallback
	}
	return m
}
