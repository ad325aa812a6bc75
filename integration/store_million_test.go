package integration

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// many is how many stored messengers the tests of this file have. Nothing may depend on it.
const many = 100_000

// manyOptions read from a memory without a store key, which is refused for writing only.
func manyOptions(storage string) string {
	return storage + "\nmessenger {\n poll_interval 0\n}\nmessenger support {\n identity_key identity\n shared_token\n}"
}

// fill puts stored messengers into a memory, all with one shared token. What is put there was written by a gateway.
func fill(t *testing.T, m *memory, count int) sharedToken {
	t.Helper()
	folder := t.TempDir()
	g := start(t, nil, sealedOptions(folder), sealedSite)
	g.operator().put("acme", generated)
	made := g.operator().generate("acme")
	values := files(t, folder)
	keys := factKeys(values, "acme")
	for i := range count {
		for _, key := range keys {
			m.set(strings.Replace(key, "acme", fmt.Sprintf("many%d", i), 1), values[key])
		}
	}
	return made
}

func heapInUse() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// A hundred thousand messengers are stored. A gateway that starts reads none of them, and one that is asked for costs one
// read of each of its few values, once.
func TestStoredMessengersAreLoadedOnDemand(t *testing.T) {
	if !alone(t) {
		return
	}
	m, storage := newMemory(t)
	made := fill(t, m, many)
	facts := int64(len(m.keys("messenger/many0/")))
	if facts > 3 {
		t.Errorf("a messenger with one token has %d values", facts)
	}
	before := heapInUse()
	g := start(t, nil, manyOptions(storage), clusterSite)
	// The notification and the origin. Of the configured messenger there is nothing to read.
	const first = 2
	eventually(t, "all is read that is read at the start", func() bool { return m.loads.Load() == first })
	g.expect("503 keys_unavailable", "/x", made.signed())
	if grown := heapInUse() - before; grown > 32<<20 {
		t.Errorf("a start takes %d bytes", grown)
	}
	if n := m.loads.Load(); n != first {
		t.Errorf("%d reads at the start, want %d", n, first)
	}
	token := bearer(made.signed())
	for i := range 3 {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if status := g.statusOf(plainClient, fmt.Sprintf("/m/many%d/x", i), token); status != 200 {
					t.Errorf("many%d: got %d", i, status)
				}
			})
		}
		all.Wait()
		if n := m.loads.Load(); n != first+int64(i+1)*facts {
			t.Errorf("%d reads after requests to %d messengers, want %d for each", n-first, i+1, facts)
		}
	}
	g.expect("404 messenger_unknown", "/m/nobody/x", made.signed())
	n := m.loads.Load()
	for range 10 {
		g.expect("404 messenger_unknown", "/m/nobody/x", made.signed())
	}
	if again := m.loads.Load(); again != n {
		t.Errorf("a name that nobody has is read %d times more", again-n)
	}
	if m.writes.Load() != 0 {
		t.Error("something was written")
	}
}

// statusOf sends a GET and returns the status of the answer, for goroutines other than the test's own.
func (g *gateway) statusOf(client *http.Client, path, authorization string) int {
	r, err := http.NewRequest(http.MethodGet, g.url+path, nil)
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", strings.TrimPrefix(authorization, "Authorization: "))
	resp, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// A client asks for thousands of messengers with made-up names. The storage is asked at a bounded rate, memory
// stays bounded, contacts of a known messenger notice nothing, and no name becomes a metric label.
func TestMadeUpNamesAreCheap(t *testing.T) {
	if !alone(t) {
		return
	}
	const clients = 400
	names := int64(soak(50_000))
	m, storage := newMemory(t)
	made := fill(t, m, many)
	g := start(t, nil, manyOptions(storage), clusterSite)
	token := bearer(made.signed())
	g.expect("200", "/m/many7/x", made.signed())
	before, loads, started := heapInUse(), m.loads.Load(), time.Now()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	statuses := make([]atomic.Int64, 600)
	var sent atomic.Int64
	var all sync.WaitGroup
	for range clients { // of which at most 256 wait for the storage
		all.Go(func() {
			for sent.Add(1) <= names {
				statuses[g.statusOf(client, "/m/made-up-"+strings.ToLower(rand.Text())+"/x", token)].Add(1)
			}
		})
	}
	attacked := make(chan struct{})
	go func() {
		all.Wait()
		close(attacked)
	}()
	asked := 0
	for under := true; under; asked++ {
		select {
		case <-attacked:
			under = false
		default:
			if status := g.statusOf(client, "/m/many7/x", token); status != 200 {
				t.Fatalf("a known messenger: got %d", status)
			}
		}
	}
	took := time.Since(started)
	t.Logf("%s; %d times 404, %d times 503; the known messenger was asked %d times", took, statuses[404].Load(), statuses[503].Load(), asked)
	if statuses[404].Load()+statuses[503].Load() != names {
		t.Error("there were answers other than 404 messenger_unknown and 503 keys_unavailable")
	}
	// 500 in a second, and 1000 at once; the limiter is a little generous where many ask at the same instant.
	if n, most := m.loads.Load()-loads, int64(took.Seconds()*600)+1000; n > most {
		t.Errorf("%d reads, want %d at most", n, most)
	}
	client.CloseIdleConnections()
	if grown := heapInUse() - before; grown > names*3<<10+8<<20 {
		t.Errorf("%d bytes more are in use", grown)
	}
	metrics, err := g.operator().send("GET", "../metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if label := regexp.MustCompile(`messenger="(many\d|made-up-)[^"]*"`).FindString(metrics.body); label != "" {
		t.Errorf("the name of a stored messenger, or one that was made up, is a label: %s", label)
	}
	if !strings.Contains(metrics.body, `messenger="stored"`) {
		t.Error("stored messengers are not counted")
	}
}
