package integration

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// serveProgram starts a program that serves at addr, and ends it with the test.
func serveProgram(t *testing.T, addr string, cmd *exec.Cmd) {
	t.Helper()
	if err := startProgram(t, addr, cmd); err != nil {
		t.Fatal(err)
	}
}

// startProgram is serveProgram for goroutines, which must not end the test. It waits for a minute: some programs are compiled first.
func startProgram(t *testing.T, addr string, cmd *exec.Cmd) error {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			return fmt.Errorf("%s has ended: %s", cmd.Path, out.String())
		default:
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("%s does not listen", cmd.Path)
}
