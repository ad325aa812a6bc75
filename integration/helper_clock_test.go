package integration

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// A clock is the wall clock of one node: see testdata/gateway.
type clock struct {
	t    testing.TB
	file string
}

// newClock makes a clock that is right, and the variable for a node's environment.
func newClock(t testing.TB) (c *clock, variable string) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("not run: only on Linux and amd64 can a process have a clock of its own")
	}
	c = &clock{t, filepath.Join(t.TempDir(), "clock")}
	if err := os.WriteFile(c.file, make([]byte, 8), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, "MESSENGER_TEST_CLOCK=" + c.file
}

// set makes the clock be ahead, or behind if that is negative, by whole seconds.
func (c *clock) set(ahead time.Duration) {
	c.t.Helper()
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(ahead/time.Second))), 0); err != nil {
		c.t.Fatal(err)
	}
}
