package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
)

// newFolderWire makes the wire of one node to a folder, and returns the line of a Caddyfile that uses both.
func newFolderWire(t testing.TB, folder string) (w *wire, storage string) {
	t.Helper()
	w = newWire(t)
	socket := filepath.Join(sockDir, "wire-"+strings.ReplaceAll(freeAddr(t), ":", "-"))
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go w.serveFolder(conn, folder)
		}
	}()
	return w, "storage faulty " + folder + " " + socket
}

// serveFolder answers the question of one call.
func (w *wire) serveFolder(conn net.Conn, folder string) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	var s step
	var size int
	if _, err := fmt.Sscan(line, &s.op, &s.key, &size); err != nil {
		panic(line)
	}
	value := make([]byte, size)
	if _, err := io.ReadFull(reader, value); err != nil {
		return
	}
	s.writes = s.op == "Store" || s.op == "Delete" || s.op == "Lock" || s.op == "Unlock"
	name := filepath.Join(folder, filepath.FromSlash(s.key))
	s.again = func() {
		switch s.op {
		case "Store":
			_ = (&certmagic.FileStorage{Path: folder}).Store(context.Background(), s.key, value)
		case "Delete":
			_ = os.RemoveAll(name)
		}
	}
	decision := map[fate]string{forward: "forward", refuse: "refuse", lose: "lose"}[w.meet(s)]
	_, _ = fmt.Fprintln(conn, decision) // a node that was killed reads nothing
}
