package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// minDuration is the shortest duration, other than 0, that an option can have.
const minDuration = time.Millisecond

// CheckUnit returns an error for a duration that lacks its unit: JSON takes a number alone, and means nanoseconds. Its error continues a
// sentence that begins with the option; example is a duration that it could have.
func CheckUnit(d time.Duration, example string) error {
	if d > 0 && d < minDuration {
		return fmt.Errorf("is below %s, and a number without a unit is nanoseconds; give a duration such as %s", DurationText(minDuration), example)
	}
	return nil
}

// checkUnits is CheckUnit for all settings.
func (m *Messenger) checkUnits() error {
	for _, s := range Settings {
		duration := typeOf(s.field(m)).duration
		if duration == nil {
			continue
		}
		if err := CheckUnit(duration()); err != nil {
			return fmt.Errorf("%s %w", s.Name, err)
		}
	}
	if m.Previous == nil {
		return nil
	}
	if err := m.Previous.Settings().checkUnits(); err != nil {
		return fmt.Errorf("previous %w", err)
	}
	return nil
}

// CheckResolved returns an error for settings of a configuration that are certainly a mistake, when its placeholders are resolved: durations
// without a unit, and texts with white space at an end, as a file or a variable often has.
func (m *Messenger) CheckResolved() error {
	for _, s := range Settings {
		if list, ok := s.field(m).(*[]string); ok && slices.ContainsFunc(*list, func(text string) bool { return strings.TrimSpace(text) != text }) {
			return fmt.Errorf("%s has white space at the beginning or end of a value, so that it fits no token; remove it", s.Name)
		}
	}
	return m.checkUnits()
}
