package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A file that the configuration names need not be one that can be read: the server of its mount may be gone, a pipe may
// have no writer, a device may never end. No such file may hold up another file, a reload or a stop. So every read here
// has an end, and is made by a goroutine of its own, because a system call that hangs cannot be cancelled.

const (
	// maxKeyFile is the largest file that {file.…} may name in bytes; the limit of Caddy's own placeholder.
	maxKeyFile = 1 << 20

	// fileWait is how long the load of a configuration, or one look at a watched file, waits for a file.
	fileWait = 5 * time.Second

	// commandFileWait is how long a command waits for a file. Someone may have to type a passphrase for the other end.
	commandFileWait = 2 * time.Minute

	// pipePause is the time between two looks at a pipe that nobody has opened for writing, or at a file that is being
	// written.
	pipePause = 10 * time.Millisecond

	// maxFileReads is how many files may be read at a time: each that hangs occupies a thread, and the runtime ends a
	// process that has ten thousand of them.
	maxFileReads = 1000
)

var (
	errFileHangs  = errors.New("the file could not be read in time; does the file system that it is on answer?")
	errFileReads  = errors.New("too many other files hang; does the file system that they are on answer?")
	errFileLarge  = errors.New("the file is larger than 1 MiB")
	errFileEmpty  = errors.New("the file is empty")
	errFileWrites = errors.New("the file changes while it is read; replace it with mv")
	errPipeLate   = errors.New("nothing was written to the pipe in time; start the program that writes to it first, or name a regular file")
	errPipeOpen   = errors.New("the pipe was not closed by its writer in time, so that its text may be incomplete")
	errPipeLater  = errors.New("the file is a pipe; a pipe is read only when the configuration is loaded: reload it, or put a regular file there")
)

// A fileText is what was read from a file.
type fileText struct {
	text []byte
	pipe bool // it cannot be read again at will
}

// fileReads makes the reads of files, at most one of each file at a time: a file that hangs costs one goroutine, however
// often it is asked for.
type fileReads struct {
	read func(ctx context.Context, name string, pipes bool) (fileText, error)

	mu      sync.Mutex
	running map[string]chan struct{} // closed when the read has ended
}

// processFiles makes the reads of this process.
var processFiles = newFileReads(readFile)

func newFileReads(read func(ctx context.Context, name string, pipes bool) (fileText, error)) *fileReads {
	return &fileReads{read: read, running: make(map[string]chan struct{})}
}

// get reads a file, or gives up when ctx ends. It never returns what an earlier read has found, which may be older than
// the call. Pipes are read only where pipes is true.
func (f *fileReads) get(ctx context.Context, name string, pipes bool) (fileText, error) {
	for {
		f.mu.Lock()
		earlier, busy := f.running[name]
		if !busy {
			return f.start(ctx, name, pipes)
		}
		f.mu.Unlock()
		select {
		case <-earlier:
		case <-ctx.Done():
			return fileText{}, errFileHangs
		}
	}
}

// start begins a read and waits for it. f.mu is locked, and is unlocked here.
func (f *fileReads) start(ctx context.Context, name string, pipes bool) (fileText, error) {
	if len(f.running) >= maxFileReads {
		f.mu.Unlock()
		return fileText{}, errFileReads
	}
	ended := make(chan struct{})
	f.running[name] = ended
	f.mu.Unlock()
	var found fileText
	var err error
	go func() {
		found, err = f.read(ctx, name, pipes)
		f.mu.Lock()
		delete(f.running, name)
		f.mu.Unlock()
		close(ended)
	}()
	select {
	case <-ended:
		return found, err
	case <-ctx.Done():
		return fileText{}, errFileHangs
	}
}

// readFile reads a regular file or, where pipes is true, a pipe up to its end. One line break at the end is left out, as
// Caddy does.
func readFile(ctx context.Context, name string, pipes bool) (fileText, error) {
	// What it is has to be known before it is opened: opening a device can have effects.
	info, err := os.Stat(name)
	if err != nil {
		return fileText{}, err
	}
	if err := checkFile(info.Mode(), pipes); err != nil {
		return fileText{}, err
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // would wait for the writer of a pipe otherwise
	if err != nil {
		return fileText{}, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return fileText{}, err
	}
	if err := checkFile(info.Mode(), pipes); err != nil { // another one may be there by now
		return fileText{}, err
	}
	found := fileText{pipe: info.Mode().Type() == fs.ModeNamedPipe}
	if found.pipe {
		found.text, err = readPipe(ctx, file)
	} else {
		found.text, err = readRegular(ctx, file)
	}
	if err != nil {
		return fileText{}, err
	}
	found.text = bytes.TrimSuffix(bytes.TrimSuffix(found.text, []byte("\n")), []byte("\r"))
	if len(found.text) == 0 {
		return fileText{}, errFileEmpty
	}
	return found, nil
}

func checkFile(mode fs.FileMode, pipes bool) error {
	switch mode.Type() {
	case 0:
		return nil
	case fs.ModeNamedPipe:
		if !pipes {
			return errPipeLater
		}
		return nil
	case fs.ModeDir:
		return errors.New("it is a directory; name a file")
	case fs.ModeSocket:
		return errors.New("it is a socket; name a file")
	}
	return errors.New("it is a device; name a file")
}

// readRegular reads a file until it did not change meanwhile, so that no half of it is taken.
func readRegular(ctx context.Context, file *os.File) ([]byte, error) {
	for last := []byte(nil); ; {
		before, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
		if err != nil {
			return nil, err
		}
		if len(text) > maxKeyFile {
			return nil, errFileLarge
		}
		after, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if before.Size() == after.Size() && before.ModTime().Equal(after.ModTime()) || last != nil && bytes.Equal(last, text) {
			return text, nil
		}
		last = text
		if !pause(ctx) {
			return nil, errFileWrites
		}
	}
}

// readPipe reads what the writer of a pipe writes until it closes it. Until a writer has opened it, the pipe is at its end.
func readPipe(ctx context.Context, pipe *os.File) ([]byte, error) {
	if limit, ok := ctx.Deadline(); ok {
		// A little earlier than the caller gives up, who would know less about the cause.
		limit = limit.Add(-time.Until(limit) / 20)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, limit)
		defer cancel()
		_ = pipe.SetReadDeadline(limit) // where a pipe cannot have one, reads do not wait either
	}
	var text []byte
	chunk := make([]byte, 4096)
	for {
		n, err := pipe.Read(chunk)
		text = append(text, chunk[:n]...)
		switch {
		case len(text) > maxKeyFile:
			return nil, errFileLarge
		case err == io.EOF && len(text) > 0:
			return text, nil
		case err != nil && err != io.EOF && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case err != nil && !pause(ctx):
			if len(text) > 0 {
				return nil, errPipeOpen
			}
			return nil, errPipeLate
		}
	}
}

// pause waits a moment, and reports false if ctx has ended.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(pipePause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// loadedFiles reads the files that one configuration names, each once: the writer of a pipe may serve a single reader.
type loadedFiles map[string]fileText

// read returns the text behind a reference.
func (l loadedFiles) read(r reference) (fileText, error) {
	if r.kind == "env" {
		text, err := r.env()
		return fileText{text: text}, err
	}
	if found, ok := l[r.name]; ok {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), fileWait)
	defer cancel()
	go func() { // Caddy cannot end before the load has ended
		for !caddy.Exiting() && pause(ctx) {
		}
		cancel()
	}()
	found, err := processFiles.get(ctx, r.name, true)
	if err == nil && l != nil {
		l[r.name] = found
	}
	return found, err
}

// resolve fills Caddy's global placeholders in text when a configuration is loaded. The files that {file.…} names are read
// here: Caddy would wait for ever where one hangs.
func (l loadedFiles) resolve(text string) (string, error) {
	var failed error
	replacer := caddy.NewReplacer().WithoutFile()
	replacer.Map(func(key string) (any, bool) {
		name, isFile := strings.CutPrefix(key, "file.")
		if !isFile {
			return nil, false
		}
		found, err := l.read(reference{kind: "file", name: name})
		if err != nil && failed == nil {
			failed = fmt.Errorf("{%s}: %w", key, err)
		}
		return string(found.text), true
	})
	resolved, err := replacer.ReplaceOrErr(text, true, true)
	if failed != nil {
		return "", failed
	}
	return resolved, err
}
