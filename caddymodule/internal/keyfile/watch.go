package keyfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// settles is how long a changed key file must stay the same before it is used: a file that is being written in place
// may contain half of a key.
const settles = 100 * time.Millisecond

// Watch reads the key files periodically until ctx ends, each in a goroutine of its own, so that a
// file that hangs does not delay the others. Pipes are skipped: reading one waits for its writer, and takes the data away
// from other readers.
func (k *Keys) Watch(ctx context.Context, interval time.Duration) {
	loaded := k.active // read once, because the first watcher may replace it
	for i, value := range k.settings.KeyValues() {
		if ref, ok := config.ParseReference(value); ok && ref.Kind == "file" && !loaded[i].pipe {
			go (&watcher{keys: k, files: config.ProcessFiles, index: i, file: ref.Name}).run(ctx, interval)
		}
	}
}

// A watcher watches the file of one key. It compares contents and not times: a file may be replaced through a link, or
// written in place with its old time.
type watcher struct {
	keys      *Keys
	files     *config.FileReads
	index     int // of the key in the configuration
	file      string
	last      [sha256.Size]byte // digest of the content that was read last
	complaint string            // the error that was logged last
	about     [sha256.Size]byte // digest of the content that complaint is about
}

func (w *watcher) run(ctx context.Context, interval time.Duration) {
	w.last = w.keys.activeKey(w.index)
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
		if !w.apply(found, err) {
			wait = min(interval, settles)
		}
	}
}

// apply makes the content of the file the key, or returns false if the content has to be read a second time first. If it
// cannot be used, the key loaded before stays active, and the reason is logged once for each content.
func (w *watcher) apply(found config.FileText, err error) bool {
	var now [sha256.Size]byte
	if err == nil {
		now = sha256.Sum256(found.Text)
		if now != w.last {
			w.last = now
			return now == w.keys.activeKey(w.index)
		}
		err = w.keys.replaceKey(w.index, found, now)
	} else {
		err = fmt.Errorf("%s %s: %w", w.keys.settings.Method(), w.keys.settings.KeyPlace(w.index), err)
	}
	if err == nil {
		w.complaint = ""
		return true
	}
	if w.complaint != err.Error() || w.about != now {
		w.complaint, w.about = err.Error(), now
		w.keys.logger.Error("a changed key file cannot be used; the keys that were loaded before stay active", zap.Error(err))
	}
	return true
}

// activeKey returns the digest of the i-th active key.
func (k *Keys) activeKey(i int) [sha256.Size]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.active[i].digest
}

// replaceKey makes found the i-th key, unless it is that already. It first tries all new contents together, because files
// that exchange their keys make a valid set only when all of them were read, and then this key alone.
func (k *Keys) replaceKey(i int, found config.FileText, digest [sha256.Size]byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active[i].digest == digest {
		k.wanted[i] = k.active[i]
		return nil
	}
	loaded, err := k.parse(i, found)
	if err != nil {
		k.wanted[i] = k.active[i]
		return err
	}
	k.wanted[i] = loaded
	next := slices.Clone(k.wanted)
	keys, err := k.keySet(next)
	if err != nil {
		next = slices.Clone(k.active)
		next[i] = loaded
		if keys, err = k.keySet(next); err != nil {
			return err
		}
	}
	k.active = next
	k.use(keys)
	k.logger.Named("audit").Named("keys").Info("keys changed", zap.String("by", "the key file"), zap.String("method", k.settings.Method()), zap.Int("keys", len(next)))
	return nil
}
