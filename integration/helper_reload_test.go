package integration

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// caddy.Load returns before the servers of the configuration before have stopped accepting. Each configuration listens on a
// socket of its own (SO_REUSEPORT), and a connection that waits at the old one is reset when that closes, or is answered
// by what was replaced.

// waitForOneListener waits until the site's port has one socket that listens. Only Linux says so.
func (g *gateway) waitForOneListener() {
	g.t.Helper()
	if runtime.GOOS == "linux" {
		eventually(g.t, "the servers of the configuration before have closed their listeners", func() bool { return listeners(g.t, g.addr) <= 1 })
	}
}

// listeners counts the sockets that listen on the port of addr.
func listeners(t testing.TB, addr string) (n int) {
	t.Helper()
	_, decimal, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(decimal)
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprintf(":%04X", number)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) { // a kernel without IPv6 has no tcp6
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > 3 && strings.HasSuffix(fields[1], port) && fields[3] == "0A" { // LISTEN
				n++
			}
		}
	}
	return n
}

// stoppedAdmins counts the admin endpoints of this gateway that have ended, by the log: unlike the site's, their sockets
// cannot be told apart from outside.
func (g *gateway) stoppedAdmins() (n int) {
	text, err := os.ReadFile(g.log)
	if err != nil && !os.IsNotExist(err) { // before the first load there is none
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		ended := strings.Contains(line, `"stopped previous server"`) || strings.Contains(line, `"stopping current admin endpoint"`)
		if ended && (strings.Contains(line, g.sock) || !strings.Contains(line, `"address"`)) {
			n++
		}
	}
	return n
}
