package config

import "testing"

// An operator makes a new setting stricter, and nothing asks: whoever adds a setting says what a change of it makes invalid, or why that
// is nothing.
func TestEverySettingSaysWhatItsChangeMakesInvalid(t *testing.T) {
	for _, s := range Settings {
		if (s.loss == nil) == (s.noLoss == "") {
			t.Errorf("%s has a loss and a reason for none, or neither", s.Name)
		}
	}
}
