package registry

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// keyFileSettles is the time in which a key file that was found changed must stay as it is to be taken: one that is written
// in place may be half of a key.
const keyFileSettles = 100 * time.Millisecond

// watchKeyFiles reads the key files of the messenger again and again until ctx ends, each in a goroutine of its own, so that
// one that hangs delays no other. A pipe is not among them: a read waits for its writer, and takes what it writes from
// another reader.
func (m *Messenger) watchKeyFiles(ctx context.Context, interval time.Duration) {
	loaded := m.keys.active // which the first watcher may replace already
	for i, value := range m.KeyValues() {
		if ref, ok := config.ParseReference(value); ok && ref.Kind == "file" && !loaded[i].pipe {
			go (&keyWatcher{m: m, files: config.ProcessFiles, place: i, file: ref.Name}).run(ctx, interval)
		}
	}
}

// A keyWatcher watches the file of one key. It compares contents: a file may be replaced through a link, or written in place
// with its old time.
type keyWatcher struct {
	m         *Messenger
	files     *config.FileReads
	place     int // of the key in the configuration
	file      string
	last      [sha256.Size]byte // of what was read last
	complaint string            // the last one, and the content that it was about
	about     [sha256.Size]byte
}

func (w *keyWatcher) run(ctx context.Context, interval time.Duration) {
	w.last = w.m.activeKey(w.place)
	for wait := interval; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		reading, cancel := context.WithTimeout(ctx, config.FileWait)
		found, err := w.files.Get(reading, w.file, false)
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait = interval
		if !w.look(found, err) {
			wait = min(interval, keyFileSettles)
		}
	}
}

// look takes what was found in the file, and reports false if that has to be found once more first. What cannot be used
// changes nothing: the key loaded before stays active, and the log says why, once for each thing that was found.
func (w *keyWatcher) look(found config.FileText, err error) bool {
	var now [sha256.Size]byte
	if err == nil {
		now = sha256.Sum256(found.Text)
		if now != w.last {
			w.last = now
			return now == w.m.activeKey(w.place)
		}
		err = w.m.takeKey(w.place, found, now)
	} else {
		err = fmt.Errorf("%s %s: %w", w.m.Method(), w.m.KeyPlace(w.place), err)
	}
	if err == nil {
		w.complaint = ""
		return true
	}
	if w.complaint != err.Error() || w.about != now {
		w.complaint, w.about = err.Error(), now
		w.m.logger.Error("changed key not taken; the keys loaded before stay active", zap.Error(err))
	}
	return true
}

// activeKey returns the digest of the i-th key that is active.
func (m *Messenger) activeKey(i int) [sha256.Size]byte {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	return m.keys.active[i].digest
}

// takeKey makes what was found the i-th key, unless it is that already. Keys whose files change places fit together only
// when all were read, so that those are tried first that did not fit alone.
func (m *Messenger) takeKey(i int, found config.FileText, digest [sha256.Size]byte) error {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	if m.keys.active[i].digest == digest {
		m.keys.wanted[i] = m.keys.active[i]
		return nil
	}
	loaded, err := m.parseKey(i, found)
	if err != nil {
		m.keys.wanted[i] = m.keys.active[i]
		return err
	}
	m.keys.wanted[i] = loaded
	next := slices.Clone(m.keys.wanted)
	keys, err := m.keySet(next)
	if err != nil {
		next = slices.Clone(m.keys.active)
		next[i] = loaded
		if keys, err = m.keySet(next); err != nil {
			return err
		}
	}
	m.keys.current, m.keys.active = keys, next
	m.trust(keys)
	m.logger.Named("audit").Named("keys").Info("keys changed", zap.String("by", "the key file"), zap.String("method", m.Method()), zap.Int("keys", m.Verifier.Load().Standing().Keys))
	return nil
}
