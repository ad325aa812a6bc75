//go:build unix

package config

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func newPipe(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// servePipe opens a pipe for writing, which waits for its reader, writes the parts, each with a system call of its own, and
// closes it.
func servePipe(t *testing.T, name string, parts ...string) {
	pipe, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer pipe.Close()
	for _, part := range parts {
		if _, err := pipe.WriteString(part); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
	}
}

// holdPipe keeps a pipe open with text in it.
func holdPipe(t *testing.T, name, text string) {
	t.Helper()
	pipe, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	if _, err := pipe.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// A path in a configuration may name anything. Every read ends, with the content or at the time limit, and its error says what is
// wrong.
func TestFileReadsHaveATimeLimit(t *testing.T) {
	dir := t.TempDir()
	regular := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(regular("target", "text\r\n"), link); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	large := strings.Repeat("x", maxKeyFile)

	files := []struct{ name, file, text, complaint string }{
		{"a file", regular("a", "text\n"), "text", ""},
		{"a file of the largest size", regular("b", large), large, ""},
		{"a link", link, "text", ""},
		{"an empty file", regular("c", "\n"), "", "is empty"},
		{"a file that is too large", regular("d", large+"x"), "", "larger than 1 MiB"},
		{"no file", filepath.Join(dir, "none"), "", "no such file"},
		{"a directory", dir, "", "is a directory"},
		{"a socket", socket, "", "is a socket"},
		{"a device without an end", "/dev/zero", "", "is a device"},
		{"a device without content", os.DevNull, "", "is a device"},
	}
	for _, f := range files {
		t.Run(f.name, func(t *testing.T) {
			checkRead(t, time.Minute, f.file, f.text, f.complaint)
		})
	}
	pipes := []struct {
		name, text, complaint string
		limit                 time.Duration
		write                 func(pipe string)
	}{
		{"a pipe", "text", "", time.Minute, func(pipe string) { go servePipe(t, pipe, "text\n") }},
		{"a pipe that is written in parts", "text", "", time.Minute, func(pipe string) { go servePipe(t, pipe, "te", "xt", "\n") }},
		{"a pipe whose writer writes nothing at first", "text", "", time.Minute, func(pipe string) {
			go func() {
				servePipe(t, pipe)
				servePipe(t, pipe, "text")
			}()
		}},
		{"a pipe without an end", "", "larger than 1 MiB", time.Minute, func(pipe string) { go servePipe(t, pipe, large, large) }},
		{"a pipe without a writer", "", "nothing was written", 200 * time.Millisecond, func(string) {}},
		{"a pipe into which nothing is written", "", "nothing was written", 200 * time.Millisecond, func(pipe string) { holdPipe(t, pipe, "") }},
		{"a pipe that stays open", "", "was not closed", 200 * time.Millisecond, func(pipe string) { holdPipe(t, pipe, "te") }},
	}
	for _, p := range pipes {
		t.Run(p.name, func(t *testing.T) {
			pipe := newPipe(t)
			if _, err := NewFileReads(readFile).Get(t.Context(), pipe, false); err != errPipeLater {
				t.Errorf("where no pipe is read: got the error %v", err)
			}
			p.write(pipe)
			checkRead(t, p.limit, pipe, p.text, p.complaint)
		})
	}
}

func checkRead(t *testing.T, limit time.Duration, file, text, complaint string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	got, err := NewFileReads(readFile).Get(ctx, file, true)
	switch {
	case complaint == "" && err != nil:
		t.Errorf("got the error %v", err)
	case complaint != "" && (err == nil || !strings.Contains(err.Error(), complaint)):
		t.Errorf("got the error %v, want one that says %q", err, complaint)
	case string(got.Text) != text:
		t.Errorf("got a text of %d bytes, want %d", len(got.Text), len(text))
	}
}

// hanging is a file system that does not answer until it is released.
type hanging struct {
	release chan struct{}
	reads   atomic.Int32
}

func (h *hanging) read(context.Context, string, bool) (FileText, error) {
	h.reads.Add(1)
	<-h.release
	return FileText{Text: []byte("text")}, nil
}

// A mount that does not answer blocks one goroutine for each file on it, however many callers ask for the file, and however often.
// When it answers again, the next caller gets the current content.
func TestHangingFileBlocksOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &hanging{release: make(chan struct{})}
		files := NewFileReads(disk.read)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), FileWait)
					if _, err := files.Get(ctx, "key", false); err != errFileHangs {
						t.Errorf("got the error %v", err)
					}
					cancel()
				}
			})
		}
		all.Wait()
		if n := disk.reads.Load(); n != 1 {
			t.Errorf("%d reads were begun", n)
		}
		close(disk.release)
		if got, err := files.Get(t.Context(), "key", false); err != nil || string(got.Text) != "text" {
			t.Errorf("afterwards: got %q, %v", got.Text, err)
		}
		if n := disk.reads.Load(); n != 2 {
			t.Errorf("%d reads were begun in all, want the second one for the last call", n)
		}
		if len(files.running) != 0 {
			t.Errorf("%d reads are left", len(files.running))
		}
	})
}

// Each file that hangs blocks a thread, and the runtime ends a process with too many threads.
func TestHangingFilesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &hanging{release: make(chan struct{})}
		files := NewFileReads(disk.read)
		ctx, cancel := context.WithTimeout(t.Context(), FileWait)
		defer cancel()
		var all sync.WaitGroup
		for n := range maxFileReads {
			all.Go(func() { _, _ = files.Get(ctx, string(rune('a'+n)), false) })
		}
		all.Wait()
		if _, err := files.Get(t.Context(), "one more", false); err != errFileReads {
			t.Errorf("got the error %v", err)
		}
		close(disk.release)
	})
}

// The writer of a pipe may serve one reader: a pipe that a configuration names twice is read once. The next configuration
// reads it again.
func TestPipeIsReadOncePerConfiguration(t *testing.T) {
	pipe := newPipe(t)
	for _, text := range []string{"first", "second"} {
		go servePipe(t, pipe, text)
		files := make(LoadedFiles)
		for range 2 {
			if got, err := files.Read(Reference{"file", pipe}); err != nil || string(got.Text) != text || !got.Pipe {
				t.Errorf("got %q (a pipe: %t), %v", got.Text, got.Pipe, err)
			}
		}
		if got, err := files.Resolve("https://{file." + pipe + "}.example"); err != nil || got != "https://"+text+".example" {
			t.Errorf("in a URL: got %q, %v", got, err)
		}
	}
}
