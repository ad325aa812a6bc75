package integration

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pberkel/caddy-storage-redis" // a storage that nodes share

	_ "github.com/messengerauth/caddy-messenger-auth"
)

// A gateway is a running Caddy with one site on a free loopback port.
type gateway struct {
	t    testing.TB
	addr string // host:port of the site
	url  string // http://host:port
	log  string // the file with all log lines of this gateway, DEBUG and up
	sock string // the admin socket
	conf func(caddyfile string) []byte

	unlogged bool   // the site keeps no access log
	running  []byte // the configuration
}

// start runs Caddy with one site. site is what stands in the site block; messengers what stands in the global block.
// In both, the words UPSTREAM and DIR are replaced by the upstream's address and by the test's folder.
func start(t testing.TB, up *upstream, messengers, site string) *gateway {
	t.Helper()
	g := newGateway(t, up, "http://")
	g.load(messengers, site)
	return g
}

// unusedName returns a name of a messenger or contact that no test has used in this process: limits outlive configurations.
func unusedName(name string) string { return name + "-" + strings.ToLower(crand.Text()) }

// replaceWords replaces words, each of which is followed by what replaces it. They are whole words, because a key in the text may
// have the letters of one in it.
func replaceWords(text string, wordsAndValues ...string) string {
	for pair := range slices.Chunk(wordsAndValues, 2) {
		text = regexp.MustCompile(`\b`+pair[0]+`\b`).ReplaceAllLiteralString(text, pair[1])
	}
	return text
}

func newGateway(t testing.TB, up *upstream, scheme string) *gateway {
	t.Helper()
	dir := gatewayFolder(t)
	g := &gateway{t: t, addr: freeAddr(t), log: filepath.Join(dir, "caddy.log"), sock: filepath.Join(sockDir, strings.ReplaceAll(freeAddr(t), ":", "-"))}
	g.url = scheme + g.addr
	upstreamAddr := ""
	if up != nil {
		upstreamAddr = up.addr
	}
	g.conf = func(text string) []byte {
		text = replaceWords(text, "UPSTREAM", upstreamAddr, "DIR", dir, "ADDR", g.addr)
		adapter := caddyconfig.GetAdapter("caddyfile")
		config, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
		if err != nil {
			t.Fatalf("adapting: %v\n%s", err, text)
		}
		return config
	}
	t.Cleanup(func() {
		g.keepMetrics()
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
		keepLog(t, g.log)
	})
	return g
}

// gatewayFolder returns a folder for a gateway. TestMain removes it, and not the test: Caddy cleans its storage in the background,
// and writes that down when it has stopped already. Folders of the test that a gateway writes to are removed after it was stopped.
func gatewayFolder(t testing.TB) string {
	t.Helper()
	t.TempDir() // the first one of a test decides when all are removed
	dir, err := os.MkdirTemp(sockDir, "gateway-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// load gives the running gateway another configuration.
func (g *gateway) load(messengers, site string) {
	g.t.Helper()
	g.replace(g.conf(g.caddyfile(messengers, site)))
	g.keepConfig()
}

// hasStorage finds the global option storage.
var hasStorage = regexp.MustCompile(`(?m)^\s*storage\s`)

// caddyfile returns a whole Caddyfile. A gateway whose options name no storage has one of its own: what one test stores must not be
// there for the next one, in whatever order they run.
func (g *gateway) caddyfile(messengers, site string) string {
	if !hasStorage.MatchString(messengers) {
		messengers = "storage file_system " + filepath.Join(filepath.Dir(g.log), "storage") + "\n" + messengers
	}
	if !g.unlogged {
		site = "log\n" + site
	}
	certificates := "" // without TLS no node makes a CA, which Caddy cannot do for two at once on one storage
	if strings.HasPrefix(g.url, "https://") {
		site = siteCertificate(g.t) + site
		certificates = "local_certs\n\tskip_install_trust"
	}
	return fmt.Sprintf(`{
	admin unix//%s
	auto_https disable_redirects
	%s
	log default {
		output file %s {
			roll_disabled
		}
		level DEBUG
%s
	}
%s
}

%s {
%s
}
`, g.sock, certificates, g.log, logFilter, messengers, strings.TrimSuffix(g.url, "/"), site)
}

// keepConfig remembers the running configuration, as the admin endpoint shows it, for the leak search.
func (g *gateway) keepConfig() {
	eventually(g.t, "the configuration can be read", func() bool {
		resp, err := g.adminClient().Get("http://caddy/config/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		search.add("GET /config/", body)
		return err == nil
	})
	if saved, err := os.ReadFile(caddy.ConfigAutosavePath); err == nil {
		search.add("autosaved config", saved)
	}
}

// adminClient returns a client of the admin endpoint.
func (g *gateway) adminClient() *http.Client {
	return socketClient(g.sock)
}

// socketClient returns a client that reaches every host over a Unix socket, keeps no connection, and wants nothing compressed. A timeout
// is for the caller's context where 20 s are too few.
func socketClient(sock string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}}
}

// logs returns what Caddy has logged so far.
func (g *gateway) logs() string {
	g.t.Helper()
	text, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Fatalf("reading the log: %v", err)
	}
	return string(text)
}

// waitForLog waits until the log has text.
func (g *gateway) waitForLog(text string) {
	g.t.Helper()
	eventually(g.t, "the log has "+text, func() bool { return strings.Contains(g.logs(), text) })
}

// eventually polls until ok, for at most ten seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, time.Minute, what, ok) // generous: the machine may be busy, and what is wrong never comes
}

// within polls until ok, for at most limit. What comes soon is seen at once, and a long wait costs little.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	pause := 2 * time.Millisecond
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(pause) {
		if ok() {
			return
		}
		pause = min(pause*5/4, 50*time.Millisecond)
	}
	t.Fatalf("not within %s: %s", limit, what)
}

// loadError adapts and loads a configuration that must not load, and returns the error text.
func loadError(t *testing.T, messengers, site string) string {
	t.Helper()
	g := &gateway{t: t, addr: freeAddr(t), log: filepath.Join(t.TempDir(), "caddy.log"), sock: filepath.Join(sockDir, strings.ReplaceAll(freeAddr(t), ":", "-"))}
	g.url = "http://" + g.addr
	adapter := caddyconfig.GetAdapter("caddyfile")
	text := replaceWords(g.caddyfile(messengers, site), "DIR", filepath.Dir(g.log))
	config, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err == nil {
		err = caddy.Validate(mustConfig(t, config))
	}
	if err == nil {
		t.Fatalf("the configuration loads, and must not:\n%s", text)
	}
	search.add("load error", []byte(err.Error()))
	return err.Error()
}

func mustConfig(t *testing.T, text []byte) *caddy.Config {
	t.Helper()
	config := new(caddy.Config)
	if err := json.Unmarshal(text, config); err != nil {
		t.Fatal(err)
	}
	return config
}

// freeAddr returns an address that is free, each once for all processes of the suite: Caddy shares a port with another
// listener without a word. The system gives connections and other servers no port from below 32768.
func freeAddr(t testing.TB) string {
	t.Helper()
	for {
		port := strconv.Itoa(10_000 + rand.IntN(22_000))
		given, err := os.OpenFile(filepath.Join(sharedDir, "port-"+port), os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = given.Close()
		if ln, err := net.Listen("tcp", ":"+port); err == nil {
			_ = ln.Close()
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
}
