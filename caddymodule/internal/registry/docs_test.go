package registry

import (
	"os"
	"strings"
	"testing"
)

// The documentation explains every reason for which a messenger cannot decide.
func TestDocsHaveTheReasonsOfHealth(t *testing.T) {
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Health\n")
	section, _, _ = strings.Cut(section, "\n## ")
	reasons := []string{reasonNotFetched, reasonTooOld, reasonNoToken, reasonStore, reasonUnknown}
	for _, reason := range reasons {
		if !strings.Contains(section, "\n| `"+reason+"` |") {
			t.Errorf("the page does not have the reason %s", reason)
		}
	}
	if rows := strings.Count(section, "\n| `"); rows != len(reasons) {
		t.Errorf("the page has %d reasons, want %d", rows, len(reasons))
	}
}
