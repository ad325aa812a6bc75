package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// measure starts a server and sends it one load.
func measure(s sizes, k *keys, sc scenario, v variant) (result, error) {
	tokens := sc.tokens(v)
	backend, err := serveBackend()
	if err != nil {
		return result{}, err
	}
	defer backend.Close()
	server, err := startServer(k, v, backend.Addr().String())
	if err != nil {
		return result{}, err
	}
	defer server.stop()
	load := load{address: server.address, requests: requests(tokens), status: sc.status}
	if !sc.once {
		// Connections, buffers and caches fill before anything is counted: every token is sent once, or more often.
		if _, _, err := load.run(sc.connections, 0, max(len(tokens), 5*sc.connections, 2000)); err != nil {
			return result{}, err
		}
	}
	before, err := server.cpu()
	if err != nil {
		return result{}, err
	}
	start, limit := time.Now(), 0
	if sc.once {
		limit = len(tokens)
	}
	times, sent, err := load.run(sc.connections, time.Duration(s.seconds*float64(time.Second)), limit)
	if err != nil {
		return result{}, err
	}
	elapsed := time.Since(start)
	after, err := server.cpu()
	if err != nil {
		return result{}, err
	}
	memory, err := server.memory()
	slices.Sort(times)
	return result{
		cpu:    float64((after - before).Microseconds()) / float64(sent),
		rate:   float64(sent) / elapsed.Seconds(),
		p50:    times[len(times)/2],
		p99:    times[len(times)*99/100],
		memory: memory,
	}, err
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
	address  string
	requests [][]byte
	status   int
	next     atomic.Int64
}

// run sends requests over so many connections, each of which waits for an answer before it sends the next: for that time,
// or so many if limit is not 0. It returns how long each took.
func (l *load) run(connections int, duration time.Duration, limit int) (times []time.Duration, sent int, err error) {
	l.next.Store(0)
	stop := time.Now().Add(duration)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			mine, failed := l.connection(func(n int) bool { return limit > 0 && n < limit || limit == 0 && time.Now().Before(stop) })
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			if failed != nil {
				err = failed
			}
		})
	}
	all.Wait()
	if err == nil && len(times) == 0 {
		err = fmt.Errorf("no request was answered in %s", duration)
	}
	return times, len(times), err
}

func (l *load) connection(more func(n int) bool) (times []time.Duration, err error) {
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 4<<10)
	for {
		n := int(l.next.Add(1) - 1)
		if !more(n) {
			return times, nil
		}
		start := time.Now()
		if _, err := conn.Write(l.requests[n%len(l.requests)]); err != nil {
			return nil, err
		}
		status, err := readAnswer(reader)
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
