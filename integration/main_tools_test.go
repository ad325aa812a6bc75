package integration

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A word that no test knows would make nothing a failure.
func TestToolsOfTheVariableAreKnown(t *testing.T) {
	for _, word := range strings.Fields(os.Getenv(toolsVariable)) {
		if word != "installed" && !slices.Contains(otherTools, word) && !slices.ContainsFunc(tools, func(tool tool) bool { return tool.language == word }) {
			t.Errorf("%s has the word %q, which no test knows", toolsVariable, word)
		}
	}
}

// What needs a tool is skipped if nothing is asked for, and if the tool is not there, unless that is named.
func TestToolsAreRequiredByName(t *testing.T) {
	for asked, want := range map[string][2]string{ // for a tool that is there, and for one that is not
		"":                             {"skipped", "skipped"},
		"installed":                    {"run", "skipped"},
		"another":                      {"skipped", "skipped"},
		"another test-tool":            {"skipped", "failed"},
		"test-tool installed":          {"run", "failed"},
		"test-tool-that-is-there more": {"run", "skipped"},
	} {
		t.Setenv(toolsVariable, asked)
		for i, tool := range []string{"test-tool-that-is-there", "test-tool"} {
			got := &toolTest{TB: t, outcome: "run"}
			done := make(chan struct{})
			go func() {
				defer close(done)
				requireTool(got, tool, []string{"go", "no-program-of-this-name"}[i])
			}()
			<-done
			if got.outcome != want[i] {
				t.Errorf("%s=%q: a test of %s is %s, want %s", toolsVariable, asked, tool, got.outcome, want[i])
			}
		}
	}
}

// A toolTest records how a test ends.
type toolTest struct {
	testing.TB
	outcome string
}

func (t *toolTest) Skipf(string, ...any) {
	t.outcome = "skipped"
	runtime.Goexit()
}

func (t *toolTest) Fatalf(string, ...any) {
	t.outcome = "failed"
	runtime.Goexit()
}
