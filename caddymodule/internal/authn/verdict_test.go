package authn

import (
	"fmt"
	"testing"
)

// What a metric may be labelled with is a closed list.
func TestCacheOutcomesHaveNames(t *testing.T) {
	if got := fmt.Sprint(NotLookedUp, CacheOff, CacheMiss, CacheHit); got != " off miss hit" {
		t.Errorf("got %q", got)
	}
}
