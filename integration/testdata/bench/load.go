package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// turns is into how many parts a round is cut. The servers take turns at each of them, so that what else the machine does
// meanwhile concerns all of them alike.
const turns = 10

// measure is one round: it starts a server for each variant and sends them the same load, a part at a time, beginning with
// another one in every round.
func measure(s sizes, k *keys, sc scenario, round int) (results []result, err error) {
	backend, err := serveBackend()
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	trials := make([]*trial, len(sc.variants))
	defer func() {
		for _, t := range trials {
			if t != nil {
				t.stop()
			}
		}
	}()
	for i, v := range sc.variants {
		if trials[i], err = startTrial(k, sc, v, backend.Addr().String()); err != nil {
			return nil, fmt.Errorf("%s: %w", v.name, err)
		}
	}
	for turn := range turns {
		for i := range trials {
			at := (i + round + turn) % len(trials)
			if err := trials[at].run(sc, s, turn); err != nil {
				return nil, fmt.Errorf("%s: %w", sc.variants[at].name, err)
			}
		}
	}
	for i, t := range trials {
		r, err := t.result()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sc.variants[i].name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// A trial is one server under load.
type trial struct {
	server  *server
	load    *load
	before  time.Duration // CPU time of the server
	elapsed time.Duration // while it was under load
	times   []time.Duration
}

func startTrial(k *keys, sc scenario, v variant, backend string) (*trial, error) {
	tokens := sc.tokens(v)
	server, err := startServer(k, v, backend)
	if err != nil {
		return nil, err
	}
	t := &trial{server: server}
	if t.load, err = newLoad(server.address, requests(tokens), sc.status, sc.connections); err != nil {
		t.stop()
		return nil, err
	}
	if !sc.once {
		// Buffers and caches fill before anything is counted: every token is sent once, or more often.
		if _, err := t.load.run(0, max(len(tokens), 5*sc.connections, 2000)); err != nil {
			t.stop()
			return nil, err
		}
	}
	t.before, err = server.cpu()
	return t, err
}

func (t *trial) stop() {
	if t.load != nil {
		t.load.close()
	}
	t.server.stop()
}

func (t *trial) run(sc scenario, s sizes, turn int) error {
	duration, limit := time.Duration(s.seconds*float64(time.Second))/turns, 0
	if sc.once {
		limit = len(t.load.requests) * (turn + 1) / turns
	}
	start := time.Now()
	times, err := t.load.run(duration, limit)
	t.elapsed += time.Since(start)
	t.times = append(t.times, times...)
	return err
}

func (t *trial) result() (result, error) {
	after, err := t.server.cpu()
	if err != nil {
		return result{}, err
	}
	memory, err := t.server.memory()
	if err == nil && len(t.times) == 0 {
		err = errors.New("no request was answered")
	}
	if err != nil {
		return result{}, err
	}
	slices.Sort(t.times)
	sent := len(t.times)
	return result{
		cpu:    float64((after - t.before).Microseconds()) / float64(sent),
		rate:   float64(sent) / t.elapsed.Seconds(),
		p50:    t.times[sent/2],
		p99:    t.times[sent*99/100],
		memory: memory,
	}, nil
}

// requests writes out one request for each token.
func requests(tokens []string) [][]byte {
	list := make([][]byte, len(tokens))
	for i, token := range tokens {
		list[i] = []byte("GET /chat/socket?room=7 HTTP/1.1\r\nHost: chat.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	}
	return list
}

// A load is a number of requests that are sent in turn, and the status that every answer must have.
type load struct {
	requests    [][]byte
	status      int
	connections []*connection
	next        atomic.Int64
}

type connection struct {
	net.Conn
	reader *bufio.Reader
}

func newLoad(address string, requests [][]byte, status, connections int) (*load, error) {
	l := &load{requests: requests, status: status}
	for range connections {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			l.close()
			return nil, err
		}
		l.connections = append(l.connections, &connection{conn, bufio.NewReaderSize(conn, 4<<10)})
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.connections {
		_ = c.Close()
	}
}

// run sends requests over all connections, each of which waits for an answer before it sends the next: for that time, or
// up to that number of the request if limit is not 0. It returns how long each took.
func (l *load) run(duration time.Duration, limit int) (times []time.Duration, err error) {
	stop := time.Now().Add(duration)
	more := func(n int) bool { return limit > 0 && n < limit || limit == 0 && time.Now().Before(stop) }
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, c := range l.connections {
		all.Go(func() {
			mine, failed := l.send(c, more)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			if failed != nil {
				err = failed
			}
		})
	}
	all.Wait()
	if limit > 0 {
		l.next.Store(int64(limit)) // each connection has counted one that it did not send
	}
	return times, err
}

func (l *load) send(c *connection, more func(n int) bool) (times []time.Duration, err error) {
	for {
		n := int(l.next.Add(1) - 1)
		if !more(n) {
			return times, nil
		}
		start := time.Now()
		if _, err := c.Write(l.requests[n%len(l.requests)]); err != nil {
			return nil, err
		}
		status, err := readAnswer(c.reader)
		if err != nil {
			return nil, err
		}
		if status != l.status {
			return nil, fmt.Errorf("status %d, want %d", status, l.status)
		}
		times = append(times, time.Since(start))
	}
}

// readAnswer reads an answer that has a Content-Length, with as little work as possible: the load shares a core with the
// backend.
func readAnswer(reader *bufio.Reader) (status int, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			if len(line) < 12 {
				return 0, fmt.Errorf("no status line: %q", line)
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		case len(line) == 0:
			if length < 0 {
				return 0, fmt.Errorf("an answer without Content-Length")
			}
			_, err := io.CopyN(io.Discard, reader, int64(length))
			return status, err
		default:
			if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(value)); err != nil {
					return 0, err
				}
			}
		}
	}
}

// serveBackend answers every request with the same few bytes, until it is closed.
func serveBackend() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReaderSize(conn, 16<<10)
				for {
					line, err := reader.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) > 2 {
						continue
					}
					if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener, nil
}
