package trail

import "testing"

// An action without a row would be an empty line of the audit log, and two with one name could not be told apart in it.
func TestEveryActionHasItsRow(t *testing.T) {
	seen := map[string]bool{"": true}
	for a := None + 1; int(a) < actionCount; a++ {
		if seen[a.String()] {
			t.Errorf("action %d is called %q, as another one is, or has no row", a, a)
		}
		seen[a.String()] = true
	}
}
