package integration

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// sockDir holds the admin sockets; its path is short, because the name of a socket may not be long.
var sockDir string

// sharedDir is a folder that this process shares with those that run one test of it: see alone.
var sharedDir string

// logFilter is the documented log filter, which the whole suite runs with.
var logFilter string

// TestMain keeps Caddy's own files out of the home folder, and searches everything that the suite left behind (logs,
// error answers, configurations) for tokens and secrets.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mst")
	if err != nil {
		panic(err)
	}
	sockDir = dir
	// With the race detector every process waits for a second at its end, and the commands and nodes of tests are such processes.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=50"); err != nil {
		panic(err)
	}
	folders := []string{dir}
	if sharedDir = os.Getenv("MESSENGER_TEST_SHARED"); sharedDir == "" {
		if sharedDir, err = os.MkdirTemp("", "mst"); err != nil {
			panic(err)
		}
		folders = append(folders, sharedDir)
		if err := os.Setenv("MESSENGER_TEST_SHARED", sharedDir); err != nil {
			panic(err)
		}
	}
	// Tests leave much behind, and all processes of tests together need little memory: this one, and those that it starts.
	// In full, tests look at the memory of nodes.
	if !soaking() {
		debug.SetGCPercent(400)
		if err := os.Setenv("GOGC", "400"); err != nil {
			panic(err)
		}
	}
	caddy.ConfigAutosavePath = filepath.Join(dir, "autosave.json")
	caddy.DefaultStorage = &certmagic.FileStorage{Path: filepath.Join(dir, "storage")}
	logFilter = readLogFilter()
	// Tests beside each other wait more than they compute; those that run in other processes do nothing else here.
	// A flag on the command line still decides.
	if err := flag.Set("test.parallel", "1000"); err != nil {
		panic(err)
	}
	flag.Parse()
	if raced && !*isWorker && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" {
		fmt.Printf("not run with the race detector: the tests in files %s\n", strings.Join(otherPrograms, ", "))
		if err := flag.Set("test.skip", testsIn(otherPrograms)); err != nil {
			panic(err)
		}
	}
	var code int
	if *isWorker {
		code = work(m)
	} else {
		code = max(m.Run(), searchForLeaks())
	}
	if err := stopWorkers(); err != nil {
		fmt.Println("FAIL: the processes that ran tests:", err)
		code = 1
	}
	if complaints := checkSuiteMetrics(); len(complaints) > 0 {
		fmt.Println("FAIL: the documented table of metrics and what the suite met differ:")
		for _, complaint := range complaints {
			fmt.Println("   ", complaint)
		}
		code = 1
	}
	stopChromiums()
	for _, folder := range folders {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// otherPrograms are the files whose tests spend their time in other programs: commands, browsers, scripts, servers, and samples in
// other languages. The race detector sees nothing of these, and what they ask of the gateway is asked by other tests as well.
var otherPrograms = []string{"bench_*", "command_*", "docs_*", "explain_*", "headers_cgi_*", "panel_browser_*", "panel_procedures_*", "panel_samples_*", "panel_screenshots_*", "panel_states_*", "script_*", "token_libraries_*", "widget_*"}

// testsIn returns an expression for the names of the tests in files.
func testsIn(files []string) string {
	var names []string
	for _, pattern := range files {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			panic(fmt.Sprint("no file is named ", pattern))
		}
		for _, file := range found {
			text, err := os.ReadFile(file)
			if err != nil {
				panic(err)
			}
			for _, name := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
				names = append(names, string(name[1]))
			}
		}
	}
	return "^(" + strings.Join(names, "|") + ")$"
}

// checkSuiteMetrics compares the metrics that the suite met with the documented table. After the whole suite none is missing.
// The process of a single test leaves that to the one that started it.
func checkSuiteMetrics() []string {
	if os.Getenv(aloneVariable) != "" {
		return nil
	}
	text, err := os.ReadFile(docsFolder + "monitoring.md")
	if err != nil {
		panic(err)
	}
	documented, err := parseMetrics(string(text))
	if err != nil {
		return []string{err.Error()}
	}
	others, err := metricsOfOthers()
	if err != nil {
		return []string{err.Error()}
	}
	maps.Copy(suiteMetrics, others)
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == ""
	return suiteMetrics.check(documented, whole)
}

// readLogFilter returns the format block that the documentation gives operators, so that the documented recipe is the one that
// is tested.
func readLogFilter() string {
	text, err := os.ReadFile(docsFolder + "security.md")
	if err != nil {
		panic(err)
	}
	block := regexp.MustCompile("(?s)<!-- log filter -->\n```caddyfile\n(.*?)```").FindSubmatch(text)
	if block == nil {
		panic("the page has no log filter")
	}
	format := regexp.MustCompile(`(?s)\tformat filter \{.*?\n\t\}`).Find(block[1])
	if format == nil {
		panic("the page's log filter has no format block")
	}
	return string(format)
}

// searchForLeaks searches what the tests left until now. It prints what it finds, and returns a status for the process.
func searchForLeaks() (status int) {
	if leaks := search.run(); len(leaks) > 0 {
		fmt.Println("FAIL: tokens or secrets were found in what the tests left:")
		for _, leak := range leaks {
			fmt.Println("   ", leak)
		}
		return 1
	}
	return 0
}

// search is the leak search of the whole suite.
var search leakSearch

// A leakSearch collects secrets as the tests make them, and everything in which none of them may be found.
type leakSearch struct {
	mu      sync.Mutex
	secrets map[string]bool
	texts   map[string][]byte
}

// secret registers text that may appear nowhere. Of a token its payload and signature are searched for, since the
// header says nothing; of a short or public text nothing.
func (s *leakSearch) secret(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secrets == nil {
		s.secrets = make(map[string]bool)
	}
	parts := strings.Split(text, ".")
	if len(parts) == 3 {
		parts = parts[1:]
	}
	for _, part := range parts {
		if len(part) >= secretStart {
			s.secrets[part[:secretStart]] = true
		}
	}
}

func (s *leakSearch) add(where string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts = make(map[string][]byte)
	}
	s.texts[where] = append(append(s.texts[where], text...), '\n')
}

// keepLog adds a log file to the search before the test's folder is removed, and looks for faults in it.
func keepLog(t testing.TB, name string) {
	t.Helper()
	if text, err := os.ReadFile(name); err == nil {
		hasNoFault(t, text)
		search.add("log", text)
	}
}

// run searches the texts that were added since it ran last.
func (s *leakSearch) run() (leaks []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.texts = nil }()
	for where, text := range s.texts {
		for _, i := range s.find(text) {
			start, end := max(0, i-300), min(len(text), i+60)
			leaks = append(leaks, fmt.Sprintf("%s: %s", where, bytes.ReplaceAll(text[start:end], []byte("\n"), []byte(" "))))
			if len(leaks) >= 10 {
				return leaks
			}
		}
	}
	return leaks
}

// find returns where secrets begin in a text. Nearly all begin with characters of the base64url or hex alphabet, and are looked for
// only where there are so many of them: there are a hundred megabytes of text.
func (s *leakSearch) find(text []byte) (places []int) {
	for secret := range s.secrets {
		if strings.ContainsFunc(secret, func(c rune) bool { return c > 0x7f || !base64url[c] }) {
			if i := bytes.Index(text, []byte(secret)); i >= 0 {
				places = append(places, i)
			}
		}
	}
	run := 0
	for i, c := range text {
		if run++; !base64url[c] {
			run = 0
		}
		if run >= secretStart && s.secrets[string(text[i+1-secretStart:i+1])] {
			places = append(places, i+1-secretStart)
		}
	}
	return places
}

// base64url has the characters of base64url (RFC 4648, section 5), and of hex.
var base64url = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		set[c] = true
	}
	return set
}()

// secretStart is how many characters of a secret are searched for.
const secretStart = 24

// The search finds what it must find.
func TestLeakSearchFindsSecrets(t *testing.T) {
	var s leakSearch
	token, phrase := sign(newSecret(), valid("mark")), "a secret of words & signs, which is long"
	s.secret(token)
	s.secret(phrase)
	parts := strings.Split(token, ".")
	for text, found := range map[string]bool{
		"nothing": false, "x" + parts[1] + "x": true, "." + parts[2]: true, parts[0]: false, "(" + phrase + ")": true, parts[1][:23]: false, parts[1][:24]: true, strings.ToUpper(phrase): false,
	} {
		if places := s.find([]byte(text)); (len(places) > 0) != found {
			t.Errorf("%q: %v", text, places)
		}
	}
}

// The faults of a gateway in another process fail a test.
func TestNodeFaultsAreFound(t *testing.T) {
	for text, found := range map[string]bool{
		"==================\nWARNING: DATA RACE\nWrite at": true, "panic: x": true, "x\npanic: runtime error": true, "fatal error: concurrent map writes\n": true,
		`{"level":"error","msg":"http: panic serving 127.0.0.1:1: x"}`: true, `{"msg":"no panic: it works"}`: false, "": false,
		`{"msg":"http: panic serving 127.0.0.1:1: test_panic: x"}`: false, "http2: panic serving [::1]:1: test_panic: x\n": false, `{"msg":"http3: panic serving","arg":"test_panic: x"}`: false,
		"http: panic serving @: test_panic: x\ngoroutine 1\nhttp: panic serving 127.0.0.1:1: x\n": true, "http: panic serving 127.0.0.1:1: x\nhttp: panic serving 127.0.0.1:1: test_panic: x": true,
		`{"msg":"http: panic serving 127.0.0.1:1: x: test_panic: y"}`: true, `{"msg":"http2: panic serving 127.0.0.1:1: x"}`: true,
		`{"msg":"http3: panic serving","arg":"x","trace":"test_panic: "}`: true, "level=ERROR msg=\"http3: panic serving\" arg=x": true,
	} {
		if got := findFault([]byte(text)); (got >= 0) != found {
			t.Errorf("%q: found at %d", text, got)
		}
	}
}

// The race detector looks at nodes as well.
func TestNodesHaveTheRaceDetector(t *testing.T) {
	info, err := buildinfo.ReadFile(caddyBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	if has := slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}); has != raced {
		t.Errorf("they have it: %t, the tests have it: %t", has, raced)
	}
}

func readAnswer(t testing.TB, conn net.Conn) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, _ = body.ReadFrom(resp.Body)
	}
	return answer{resp.StatusCode, resp.Header, body.String()}
}
