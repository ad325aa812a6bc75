package registry

import "testing"

// Unicode folds the Kelvin sign to k: it is another host.
func TestInternalHostIsASCII(t *testing.T) {
	l := &Store{internal: []string{"keys.internal"}}
	for host, want := range map[string]bool{"keys.internal": true, "KEYS.Internal": true, "\u212aeys.internal": false} {
		if got := l.IsInternal(host, host+":443"); got != want {
			t.Errorf("%q: got %t, want %t", host, got, want)
		}
	}
}
