package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A redisProxy is the network between one node and Redis.
type redisProxy struct {
	*wire
	addr, target string

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newRedisProxy(t testing.TB, target string) *redisProxy {
	t.Helper()
	p := &redisProxy{wire: newWire(t), target: target, conns: make(map[net.Conn]bool)}
	p.cutting = p.closeAll
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = ln.Addr().String()
	t.Cleanup(func() {
		ln.Close()
		p.closeAll()
	})
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *redisProxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
}

// add remembers a connection for closeAll.
func (p *redisProxy) add(conn net.Conn) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return func() {
		conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}
}

// serve carries one connection. The side to Redis stays open until everything that the node has sent is forwarded, even
// if the node has closed its side: what is late arrives.
func (p *redisProxy) serve(client net.Conn) {
	defer p.add(client)()
	p.wire.mu.Lock()
	isCut := p.isCut
	p.wire.mu.Unlock()
	if isCut {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	var deaf atomic.Bool
	go func() {
		defer client.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := server.Read(buffer)
			p.came.Add(int64(n))
			p.wait()
			if n > 0 && !deaf.Load() {
				_, _ = client.Write(buffer[:n]) // a node that has gone away reads nothing
			}
			if err != nil {
				return
			}
		}
	}()
	for reader := bufio.NewReader(client); ; {
		words, raw, err := readRedisCommand(reader)
		if err != nil {
			return
		}
		p.sent.Add(int64(len(raw)))
		switch p.meet(p.step(words, raw)) {
		case refuse:
			return
		case lose:
			deaf.Store(true)
		}
		if _, err := server.Write(raw); err != nil {
			return
		}
	}
}

var redisWrites = []string{"SET", "SETNX", "ZADD", "ZREM", "DEL", "UNLINK", "EVAL", "EVALSHA"}

// step makes a step of a command.
func (p *redisProxy) step(words []string, raw []byte) step {
	s := step{op: strings.ToUpper(words[0])}
	s.writes = slices.Contains(redisWrites, s.op)
	switch {
	case strings.HasPrefix(s.op, "EVAL") && len(words) > 3:
		s.key = words[3]
	case len(words) > 1:
		s.key = words[1]
	}
	s.again = func() {
		conn, err := net.Dial("tcp", p.target)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Write(raw); err == nil {
			_, _ = conn.Read(make([]byte, 512)) // it is done when it is answered
		}
	}
	return s
}

// readRedisCommand reads one command: an array of strings, as clients write it.
func readRedisCommand(r *bufio.Reader) (words []string, raw []byte, err error) {
	var all bytes.Buffer
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		all.WriteString(line)
		if line[0] != kind {
			return 0, fmt.Errorf("%q is not what a client of Redis sends", line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	count, err := number('*')
	if err != nil || count < 1 {
		return nil, nil, fmt.Errorf("an array of %d words: %w", count, err)
	}
	for range count {
		size, err := number('$')
		if err != nil {
			return nil, nil, err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, nil, err
		}
		all.Write(word)
		words = append(words, string(word[:size]))
	}
	return words, all.Bytes(), nil
}
