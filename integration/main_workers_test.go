package integration

import (
	"os"
	"strings"
	"testing"
)

// What a test does in another process is known in the one that waits for it, however it ends there. A process in which a test has
// failed runs no other.
func TestWorkersReportTestResults(t *testing.T) {
	for _, tt := range []struct {
		does, says string
		fails      bool
	}{
		{"pass", "--- PASS: TestWorkerProcess", false},
		{"skip", "--- SKIP: TestWorkerProcess", false},
		{"fail", "main_workers_test.go", true},
		{"panic", "panic: as it was told", true},
		{"exit", "=== RUN", true},
		{"leak", "tokens or secrets were found", true},
	} {
		w, err := startWorker(append(os.Environ(), toldVariable+"="+tt.does))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a worker whose test has not failed runs another one
			said, err := w.test("TestWorkerProcess")
			if !strings.Contains(said, tt.says) || (err != nil) != tt.fails {
				t.Errorf("%s: %v\n%s", tt.does, err, said)
			}
			if tt.fails {
				break
			}
		}
		if !tt.fails {
			if err := w.stop(); err != nil {
				t.Errorf("%s: at its end: %v", tt.does, err)
			}
		}
	}
}

// toldVariable tells TestWorkerProcess what to do.
const toldVariable = "MESSENGER_TEST_TOLD"

func TestWorkerProcess(t *testing.T) {
	switch os.Getenv(toldVariable) {
	case "":
		t.Skip("it is run by TestWorkersReportTestResults")
	case "skip":
		t.Skip("as it was told")
	case "fail":
		t.Error("as it was told")
	case "panic":
		panic("as it was told")
	case "exit":
		os.Exit(0)
	case "leak":
		search.add("log", []byte("a log with "+newSecret()))
	}
}
