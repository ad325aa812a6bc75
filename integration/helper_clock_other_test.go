//go:build !linux || !amd64

package integration

import (
	"testing"
	"time"
)

const clockVariable = "MESSENGER_TEST_CLOCK"

func useClock(string) { panic("only on Linux and amd64 can a process have a clock of its own") }

type clock struct{}

func newClock(t testing.TB) (c *clock, variable string) {
	t.Helper()
	t.Skip("not run: only on Linux and amd64 can a process have a clock of its own")
	return nil, ""
}

func (c *clock) set(time.Duration) {}
