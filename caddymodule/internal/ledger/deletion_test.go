package ledger

import (
	"fmt"
	"testing"
	"time"
)

// A name that was created and deleted 1,000 times within a month is read as fast as any other.
func BenchmarkRecordAfterManyDeletions(b *testing.B) {
	t := new(testing.T)
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "")
	at := madeAt
	for n := range 1001 {
		at = at.Add(time.Minute)
		facts, _, err := w.NextVersion(withTokens, at)
		if err != nil {
			b.Fatal(err)
		}
		w.incarnation = fmt.Sprint(n)
		w.add(at, append(facts, NewFact(factConfirmed, at, facts[0].ID))...)
		if n < 1000 {
			w.incarnation = NameFolder
			w.add(at, w.Deletion(at))
		}
	}
	for b.Loop() {
		if w.Record() == nil {
			b.Fatal("it is not there")
		}
	}
}
