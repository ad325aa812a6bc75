package registry

import (
	"os"
	"strings"
	"testing"
)

// The README explains every reason for which a messenger cannot decide.
func TestReadmeHasTheReasonsOfHealth(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### Health\n")
	section, _, _ = strings.Cut(section, "\n### ")
	for _, reason := range reasons {
		if !strings.Contains(section, "\n| `"+reason+"` |") {
			t.Errorf("the README does not have the reason %s", reason)
		}
	}
	if rows := strings.Count(section, "\n| `"); rows != len(reasons) {
		t.Errorf("the README has %d reasons, want %d", rows, len(reasons))
	}
}
