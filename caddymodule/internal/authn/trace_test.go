package authn

import (
	"slices"
	"testing"
)

// A check without a name would show as an empty line.
func TestEveryCheckHasANameAndASentence(t *testing.T) {
	var names, sentences []string
	for step := Step(0); int(step) < stepCount; step++ {
		if step.String() == "" || step.About() == "" {
			t.Errorf("the check number %d has the name %q and the sentence %q, want both", step, step.String(), step.About())
		}
		if slices.Contains(names, step.String()) || slices.Contains(sentences, step.About()) {
			t.Errorf("the check %s has the name or the sentence of another", step)
		}
		names, sentences = append(names, step.String()), append(sentences, step.About())
	}
}

// What is skipped continues where the trace ends only if the constants have the order in which the checks are made.
func TestChecksAreMadeInTheOrderOfTheirConstants(t *testing.T) {
	e := sharedTokenVerifier(t, Policy{}).Explain(t.Context(), signHS256(`{"identity":"mark"}`))
	if e.Rejection != nil || len(e.Checks) != stepCount || len(e.Skipped) != 0 {
		t.Fatalf("an accepted token: %+v, want all %d checks", e, stepCount)
	}
	for i, check := range e.Checks {
		if check.Step != Step(i) {
			t.Errorf("the check at place %d is %s, want %s", i, check.Step, Step(i))
		}
	}
}
