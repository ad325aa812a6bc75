package config

import "testing"

// A change that makes a setting stricter can make tokens invalid without a warning. So each setting states what its change makes
// invalid, or why it makes nothing invalid.
func TestEverySettingSaysWhatItsChangeMakesInvalid(t *testing.T) {
	for _, s := range Settings {
		if (s.loss == nil) == (s.noLoss == "") {
			t.Errorf("%s has a loss and a reason for none, or neither", s.Name)
		}
	}
}
