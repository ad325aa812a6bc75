package command

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An admin endpoint accepts the connection and never answers, like that of a gateway whose storage hangs. A command fails
// after a minute, and a step of reseal, which may have reached a messenger with very many values, after ten.
func TestCommandTimesOutWhenTheGatewayDoesNotAnswer(t *testing.T) {
	for path, want := range map[string]time.Duration{"messengers": time.Minute, "messengers/acme/tokens/generate": time.Minute, "reseal": 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			defer close(hang)
			started := time.Now()
			err := answerWithin(adminWait(path), "unix/admin.sock", func() error { <-hang; return nil })
			if err == nil || !strings.Contains(err.Error(), "the admin endpoint unix/admin.sock has not answered in "+want.String()) {
				t.Errorf("%s: got %v", path, err)
			}
			if took := time.Since(started); took != want {
				t.Errorf("%s: it took %s, want %s", path, took, want)
			}
		})
	}
}

// An answer in time is the result of the command, and so is an error.
func TestCommandReturnsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, want := range []error{nil, errors.New("refused")} {
			got := answerWithin(time.Minute, "unix/admin.sock", func() error { time.Sleep(59 * time.Second); return want })
			if !errors.Is(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	})
}
