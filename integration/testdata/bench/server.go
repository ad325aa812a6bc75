package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/<pid>/stat (USER_HZ, 100 on every architecture that Go runs on).
const tick = 10 * time.Millisecond

// A server is Caddy in a process of its own, with one configuration.
type server struct {
	address string
	process *exec.Cmd
	dir     string
}

// startServer runs a variant's Caddy with its configuration, and waits until it serves.
func startServer(k *keys, v variant, backend string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{address: listener.Addr().String()}
	_ = listener.Close()
	if s.dir, err = os.MkdirTemp("", "bench-*"); err != nil {
		return nil, err
	}
	config, err := json.Marshal(configuration(k, v, s.address, backend))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "caddy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := []string{filepath.Join(filepath.Dir(self), v.program()), "run", "--config", file}
	if pinned() {
		command = append([]string{"taskset", "-c", "0"}, command...)
	}
	s.process = exec.Command(command[0], command[1:]...)
	s.process.Env = append(os.Environ(), "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "BENCH_SECRET="+k.secret)
	var output bytes.Buffer
	s.process.Stderr = &output
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", s.address); err == nil {
			_ = conn.Close()
			return s, nil
		}
	}
	s.stop()
	return nil, fmt.Errorf("caddy does not serve: %s", output.String())
}

func (s *server) stop() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	_ = os.RemoveAll(s.dir)
}

// configuration is one route: what the variant does with a token, and the proxy.
func configuration(k *keys, v variant, address, backend string) any {
	type object = map[string]any
	handlers := []any{object{"handler": "reverse_proxy", "upstreams": []any{object{"dial": backend}}}}
	apps := object{}
	key := object{"public_key": []any{object{"key": k.publicPEM(v.alg), "alg": v.alg}}}
	if v.alg == "HS256" {
		key = object{"shared_token": object{"token": "{env.BENCH_SECRET}"}}
	}
	switch v.kind {
	case "bare":
		handlers = append([]any{object{"handler": "bench_verify", "algorithm": v.alg, "public_key": k.publicPEM(v.alg)}}, handlers...)
	case "static":
		handlers = []any{object{"handler": "static_response", "status_code": 401, "body": "unauthorized\n"}}
	case "gateway":
		key["identity_key"] = "identity"
		key["require_claims"] = []string{"exp"}
		apps["messenger"] = object{"messengers": object{"support": key}}
		handlers = append([]any{object{"handler": "messenger_auth", "messenger": "support"}}, handlers...)
	}
	apps["http"] = object{"servers": object{"bench": object{
		"listen":          []string{address},
		"automatic_https": object{"disable": true},
		"routes":          []any{object{"handle": handlers}},
	}}}
	return object{"admin": object{"disabled": true}, "apps": apps}
}

// cpu returns the time that the server has spent in user and system mode (proc(5), fields 14 and 15 of stat).
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name of the program may have blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat has too few fields")
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, errors.Join(errUser, errSystem)
}

// memory returns the resident memory in MiB.
func (s *server) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("/proc/<pid>/status has no VmRSS")
	}
	kilobytes, err := strconv.Atoi(fields[0])
	return float64(kilobytes) / 1024, err
}

// pinned reports whether server and load can have cores of their own.
func pinned() bool {
	_, err := exec.LookPath("taskset")
	return err == nil && os.Getenv("BENCH_PINNED") != ""
}

func pinning() string {
	if pinned() {
		return "the server on core 0, load and backend on the others"
	}
	return "server, load and backend on the same cores"
}

// cores counts those of the machine; this process may have been given fewer.
func cores() int {
	text, _ := os.ReadFile("/proc/cpuinfo")
	return max(strings.Count(string(text), "processor\t:"), 1)
}

// processor names the machine.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(text), "model name\t: ")
	name, _, _ := strings.Cut(rest, "\n")
	if name == "" {
		name = runtime.GOARCH
	}
	return name
}
