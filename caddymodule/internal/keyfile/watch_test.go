package keyfile

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// memoryFiles are files that exist in the test alone.
type memoryFiles struct {
	mu      sync.Mutex
	texts   map[string]string
	hanging map[string]chan struct{} // those that do not answer until it is closed
}

func (f *memoryFiles) read(_ context.Context, name string, _ bool) (config.FileText, error) {
	f.mu.Lock()
	text, there := f.texts[name]
	hangs := f.hanging[name]
	f.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if !there {
		return config.FileText{}, os.ErrNotExist
	}
	return config.FileText{Text: []byte(text), Whole: []byte(text)}, nil
}

func (f *memoryFiles) set(pairs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 0; i < len(pairs); i += 2 {
		f.texts[pairs[i]] = pairs[i+1]
	}
}

func (f *memoryFiles) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.texts, name)
}

// watchInMemory loads the keys of settings from files and watches these. It returns what is logged.
func watchInMemory(t *testing.T, settings *config.Messenger, files *memoryFiles, interval time.Duration) (*Keys, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	if err := settings.CheckSettings(); err != nil {
		t.Fatal(err)
	}
	read := make(config.LoadedFiles)
	for name, text := range files.texts {
		read[name] = config.FileText{Text: []byte(text), Whole: []byte(text)}
	}
	keys, err := Load(settings, read, zap.New(core), func(authn.Keys) {})
	if err != nil {
		t.Fatal(err)
	}
	reads := config.NewFileReads(files.read)
	for i, value := range settings.KeyValues() {
		ref, _ := config.ParseReference(value)
		go (&watcher{keys: keys, files: reads, index: i, file: ref.Name}).run(t.Context(), interval)
	}
	return keys, logs
}

func publicJWK(kid string, key *rsa.PrivateKey) string {
	return fmt.Sprintf(`{"kty":"RSA","e":"AQAB","kid":%q,"n":%q}`, kid, base64.RawURLEncoding.EncodeToString(key.N.Bytes()))
}

func newTestRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func linesOf(logs *observer.ObservedLogs, text string) (lines []string) {
	for _, entry := range logs.TakeAll() {
		if strings.Contains(entry.Message, text) {
			lines = append(lines, fmt.Sprint(entry.Message, entry.ContextMap()))
		}
	}
	return lines
}

// One of two key files of a messenger hangs. The other one is still taken when it changes, and the log says once that the
// first hangs; when it answers again, its change is taken too.
func TestHangingKeyFileDoesNotDelayOthers(t *testing.T) {
	a, b := newTestRSA(t), newTestRSA(t)
	synctest.Test(t, func(t *testing.T) {
		files := &memoryFiles{texts: map[string]string{"a": publicJWK("1", a), "b": publicJWK("2", a)}, hanging: map[string]chan struct{}{"a": make(chan struct{})}}
		settings := &config.Messenger{IdentityKey: "identity", PublicKey: []config.PublicKey{{Key: "{file.a}"}, {Key: "{file.b}"}}}
		m, logs := watchInMemory(t, settings, files, time.Second)
		files.set("a", publicJWK("3", b), "b", publicJWK("4", b))
		first, second := m.activeKey(0), m.activeKey(1)
		time.Sleep(3 * time.Second)
		if m.activeKey(1) == second {
			t.Error("the file that does not hang was not taken within three intervals")
		}
		time.Sleep(time.Minute)
		if m.activeKey(0) != first {
			t.Error("the file that hangs was taken")
		}
		if lines := linesOf(logs, "cannot be used"); len(lines) != 1 || !strings.Contains(lines[0], "{file.a}") {
			t.Errorf("the log has %q", lines)
		}
		close(files.hanging["a"])
		files.mu.Lock()
		delete(files.hanging, "a")
		files.mu.Unlock()
		time.Sleep(3 * time.Second)
		if m.activeKey(0) == first {
			t.Error("the file was not taken after it answered again")
		}
	})
}

// A file that is written in place is half of a secret for a moment, which looks like a whole one. It is never taken.
func TestPartlyWrittenKeyFileIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret := strings.Repeat("a-new-secret", 10)
		files := &memoryFiles{texts: map[string]string{"a": strings.Repeat("an-old-secret", 10)}}
		settings := &config.Messenger{IdentityKey: "identity", SharedToken: &config.SharedToken{Token: "{file.a}"}}
		m, logs := watchInMemory(t, settings, files, time.Second)
		old := m.activeKey(0)
		for i := 40; i < len(secret); i += 10 { // slower than the file is looked at
			files.set("a", secret[:i])
			time.Sleep(settles * 9 / 10)
			if m.activeKey(0) != old {
				t.Fatalf("%d of %d bytes were taken", i, len(secret))
			}
		}
		files.set("a", secret)
		time.Sleep(3 * time.Second)
		if m.activeKey(0) == old {
			t.Error("the whole secret was not taken")
		}
		if lines := linesOf(logs, "keys changed"); len(lines) != 1 {
			t.Errorf("the log has %q", lines)
		}
	})
}

// Two files change places. Neither fits to what the other was: they are taken together. What cannot be used is logged once
// for each thing that was found, and changes nothing.
func TestSwappedKeyFilesAreUsedTogether(t *testing.T) {
	a, b := newTestRSA(t), newTestRSA(t)
	synctest.Test(t, func(t *testing.T) {
		files := &memoryFiles{texts: map[string]string{"a": publicJWK("1", a), "b": publicJWK("2", b)}}
		settings := &config.Messenger{IdentityKey: "identity", PublicKey: []config.PublicKey{{Key: "{file.a}"}, {Key: "{file.b}"}}}
		m, logs := watchInMemory(t, settings, files, time.Second)
		first, second := m.activeKey(0), m.activeKey(1)
		files.set("a", publicJWK("2", b), "b", publicJWK("1", a))
		time.Sleep(5 * time.Second)
		if m.activeKey(0) != second || m.activeKey(1) != first {
			t.Error("the files have changed places, and the keys have not")
		}
		logs.TakeAll()

		files.set("a", publicJWK("1", b)) // which the other has
		time.Sleep(time.Minute)
		files.set("a", "no key")
		time.Sleep(time.Minute)
		files.set("a", "no key either")
		time.Sleep(time.Minute)
		files.remove("a")
		time.Sleep(time.Minute)
		if m.activeKey(0) != second || m.activeKey(1) != first {
			t.Error("what cannot be used has changed the keys")
		}
		if lines := linesOf(logs, "cannot be used"); len(lines) != 4 || !strings.Contains(lines[0], "same kid") || !strings.Contains(lines[3], "not exist") {
			t.Errorf("the log has %d lines: %q", len(lines), lines)
		}
		files.set("a", publicJWK("2", b))
		time.Sleep(5 * time.Second)
		files.remove("a")
		time.Sleep(5 * time.Second)
		if lines := linesOf(logs, "cannot be used"); len(lines) != 1 {
			t.Errorf("a file that was there in between is gone again: the log has %q", lines)
		}
	})
}
