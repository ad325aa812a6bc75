package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// caddy.Load returns before the servers of the configuration before have stopped accepting. Each configuration listens on a
// socket of its own (SO_REUSEPORT), and a connection that waits at the old one is reset when that closes, or is answered
// by what was replaced.

// replace gives the running gateway another configuration, and waits until nothing of the one before takes connections.
// A test that calls caddy.Load itself and then sends a request fails now and then.
func (g *gateway) replace(config []byte) {
	g.t.Helper()
	end := g.logSize()
	if err := caddy.Load(config, true); err != nil {
		g.t.Fatalf("loading: %v\n%s", err, config)
	}
	before := g.running
	g.running = config
	if before == nil {
		return
	}
	if runtime.GOOS == "linux" { // which alone tells
		eventually(g.t, "the servers of the configuration before have closed their listeners", func() bool { return listeners(g.t, g.addr) <= 1 })
	}
	if bytes.Contains(before, []byte(g.sock)) {
		eventually(g.t, "the admin endpoint of the configuration before has ended", func() bool { return g.adminEnded(end) })
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
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		n += listenersIn(t, name, port)
	}
	return n
}

// listenersIn reads no more of a list than its beginning: sockets that listen come before the thousands that have been closed.
func listenersIn(t testing.TB, name, port string) (n int) {
	t.Helper()
	file, err := os.Open(name)
	if os.IsNotExist(err) { // a kernel without IPv6 has no tcp6
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan() // the names of the columns
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != "0A" { // LISTEN
			break
		}
		if strings.HasSuffix(fields[1], port) {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (g *gateway) logSize() int64 {
	info, err := os.Stat(g.log)
	if errors.Is(err, fs.ErrNotExist) { // before the first load
		return 0
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return info.Size()
}

// adminEnded reports whether the log says, behind so many bytes, that an admin endpoint of this gateway has ended. Unlike
// those of the site, its sockets cannot be told apart from outside.
func (g *gateway) adminEnded(end int64) bool {
	file, err := os.Open(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, end, math.MaxInt64-end))
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		ended := strings.Contains(line, `"stopped previous server"`) || strings.Contains(line, `"stopping current admin endpoint"`)
		if ended && (strings.Contains(line, g.sock) || !strings.Contains(line, `"address"`)) {
			return true
		}
	}
	return false
}
