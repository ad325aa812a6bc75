package integration

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// aloneVariable is set in the processes that the suite starts for its tests.
const aloneVariable = "MESSENGER_TEST_ALONE"

// atOnce is how many processes run tests for this one. With eight all of them together took longer, if they start other programs as well.
func atOnce() int {
	if usable(ownProgram, "go") == nil || raced {
		return 4
	}
	return 8
}

// workers has a place for each of these processes: nil until it is started.
var workers = func() chan *worker {
	places := make(chan *worker, atOnce())
	for range cap(places) {
		places <- nil
	}
	return places
}()

// alone runs the calling test again in another process: a process has one running configuration of Caddy, so that tests with a
// gateway in the same process must wait for each other. The test runs there from now on, or as soon as a worker is free, beside
// all other tests; the calling one waits for it when those of this process are done. alone reports true in the other process; a
// test begins with "if !alone(t) { return }". It is for tests that wait, or start programs.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return true
	}
	environment := os.Environ() // now, when no test of this process has set variables of its own
	report := elsewhere(t, func(name string) (string, error) {
		w := <-workers
		defer func() { workers <- w }()
		var err error
		if w == nil {
			if w, err = startWorker(environment); err != nil {
				return "", err
			}
		}
		said, err := w.test(name)
		if err != nil {
			w = nil // what a failed test left is left alone
		}
		return said, err
	})
	t.Parallel()
	report(t)
	return false
}

// runAgain runs the calling test again in a process of its own, with variables of its own. What it returns waits for the end, and
// reports it.
func runAgain(t *testing.T, environment ...string) func(t *testing.T) {
	t.Helper()
	environment = append(os.Environ(), environment...)
	return elsewhere(t, func(name string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), testLimit())
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+name+"$", "-test.v", "-test.timeout", testLimit().String())
		cmd.Env = environment
		said, err := cmd.CombinedOutput()
		return string(said), err
	})
}

// elsewhere begins to run the calling test with run, which returns what the test printed. What it returns waits for the end, and
// reports it.
func elsewhere(t *testing.T, run func(name string) (string, error)) func(t *testing.T) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	type result struct {
		said string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		said, err := run(name)
		done <- result{said, err}
	}()
	wait := sync.OnceValue(func() result { return <-done })
	t.Cleanup(func() { wait() })
	return func(t *testing.T) {
		t.Helper()
		got := wait()
		switch {
		case got.err != nil || !strings.Contains(got.said, "\n--- "):
			t.Errorf("in another process: %v\n%s", got.err, got.said)
		case strings.Contains(got.said, "\n--- SKIP: "+name):
			t.Skipf("in another process:\n%s", got.said)
		}
	}
}

// testLimit is how long a test may take in another process.
func testLimit() time.Duration {
	if soaking() {
		return 2 * time.Hour
	}
	return 5 * time.Minute
}

// A worker is a process that runs tests for another one, until one fails. To start one costs more than many a test.
type worker struct {
	cmd   *exec.Cmd
	names io.WriteCloser
	said  *bufio.Reader
}

// isWorker makes this process a worker.
var isWorker = flag.Bool("worker", false, "run the tests whose names are read, one after the other")

// endOfTest begins the line that follows a test in what a worker says. A status is the rest of it.
const endOfTest = "=== END OF TEST "

func startWorker(environment []string) (*worker, error) {
	cmd := exec.Command(os.Args[0], "-worker", "-test.v", "-test.timeout", testLimit().String())
	cmd.Env = append(slices.Clip(environment), aloneVariable+"=1")
	names, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &worker{cmd, names, bufio.NewReader(said)}, nil
}

// test runs a test, and returns what it said. After an error the worker is gone.
func (w *worker) test(name string) (string, error) {
	if _, err := fmt.Fprintln(w.names, name); err != nil {
		return "", errors.Join(err, w.stop())
	}
	var said strings.Builder
	for {
		line, err := w.said.ReadString('\n')
		before, status, ended := strings.Cut(line, endOfTest)
		said.WriteString(before)
		switch {
		case err != nil:
			return said.String(), errors.Join(errors.New("the process ended in the test"), w.stop())
		case ended && status == "0\n":
			return said.String(), nil
		case ended:
			return said.String(), errors.Join(errors.New("it failed"), w.stop())
		}
	}
}

// stop ends a worker that has no test.
func (w *worker) stop() error {
	_ = w.names.Close()
	rest, err := io.ReadAll(w.said)
	if err = errors.Join(err, w.cmd.Wait()); err != nil && len(rest) > 0 {
		err = fmt.Errorf("%w; it said at its end:\n%s", err, rest)
	}
	return err
}

// stopWorkers ends those that were started. Their tests have ended.
func stopWorkers() (err error) {
	for range cap(workers) {
		if w := <-workers; w != nil {
			err = errors.Join(err, w.stop())
		}
	}
	return err
}

// work runs the tests whose names come in, one after the other. It ends with the first that fails, or that leaves a secret.
func work(m *testing.M) (status int) {
	names := bufio.NewScanner(os.Stdin)
	for status == 0 && names.Scan() {
		if err := flag.Set("test.run", "^"+names.Text()+"$"); err != nil {
			panic(err)
		}
		status = max(m.Run(), searchForLeaks())
		fmt.Printf("\n%s%d\n", endOfTest, status)
	}
	return status
}
