package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// FileWait is how long loading a configuration, or checking a watched file, waits for a file.
const FileWait = 5 * time.Second

// commandFileWait is how long a command waits for a file. The program that writes a pipe may have to ask for a passphrase.
const commandFileWait = 2 * time.Minute

// pipePause is the time between two checks of a pipe that is not open for writing yet, or of a file that is being written.
const pipePause = 10 * time.Millisecond

// maxFileReads is how many files may be read at a time: each that hangs occupies a thread, and the runtime ends a
// process that has ten thousand of them.
const maxFileReads = 1000

var (
	errFileHangs  = errors.New("the file could not be read in time; check whether its file system hangs")
	errFileReads  = errors.New("too many other files hang; check whether their file system hangs")
	errFileLarge  = errors.New("the file is larger than 1 MiB")
	errFileEmpty  = errors.New("the file is empty")
	errFileWrites = errors.New("the file changes while it is read; replace files with mv")
	errPipeLate   = errors.New("nothing was written to the pipe in time; start the program that writes to it first, or name a regular file")
	errPipeOpen   = errors.New("the pipe was not closed by its writer in time, so that its text may be incomplete")
	errPipeLater  = errors.New("the file is a pipe; a pipe is read only when the configuration is loaded: reload it, or put a regular file there")
)

// A FileText is what was read from a file.
type FileText struct {
	Text  []byte // without a line break at the end, as Caddy reads files
	Whole []byte // the whole content, for files that are not text
	Pipe  bool   // the file is a pipe, which cannot be read again
}

// FileReads reads files, at most one read of each file at a time: a file that hangs costs one goroutine, however often it is
// read.
type FileReads struct {
	read func(ctx context.Context, name string, pipes bool) (FileText, error)

	mu      sync.Mutex
	running map[string]chan struct{} // closed when the read has ended
}

// ProcessFiles reads the files of this process.
var ProcessFiles = NewFileReads(readFile)

// NewFileReads returns a FileReads that reads files with read.
func NewFileReads(read func(ctx context.Context, name string, pipes bool) (FileText, error)) *FileReads {
	return &FileReads{read: read, running: make(map[string]chan struct{})}
}

// Get reads a file, or gives up when ctx ends. It never returns the result of a read that began before the call, which may be
// out of date. Pipes are read only if pipes is true.
func (f *FileReads) Get(ctx context.Context, name string, pipes bool) (FileText, error) {
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
			return FileText{}, errFileHangs
		}
	}
}

// start begins a read and waits for it. The caller holds f.mu, and start unlocks it.
func (f *FileReads) start(ctx context.Context, name string, pipes bool) (FileText, error) {
	if len(f.running) >= maxFileReads {
		f.mu.Unlock()
		return FileText{}, errFileReads
	}
	ended := make(chan struct{})
	f.running[name] = ended
	f.mu.Unlock()
	var found FileText
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
	}
	select {
	case <-ended: // the read, which knows the cause, has given up as well
		return found, err
	case <-time.After(fileGrace):
		return FileText{}, errFileHangs
	}
}

// fileGrace is how much longer a read that ran out of time may take to say why.
const fileGrace = 100 * time.Millisecond

// readFile reads a regular file or, if pipes is true, a pipe up to its end.
func readFile(ctx context.Context, name string, pipes bool) (FileText, error) {
	// The type of the file is checked before it is opened, because opening a device can have effects.
	info, err := os.Stat(name)
	if err != nil {
		return FileText{}, plainFileError(name, err)
	}
	if err := checkFile(info.Mode(), pipes); err != nil {
		return FileText{}, err
	}
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: without it, opening a pipe waits for a writer
	if err != nil {
		return FileText{}, plainFileError(name, err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return FileText{}, err
	}
	if err := checkFile(info.Mode(), pipes); err != nil { // the file may have been replaced since the first check
		return FileText{}, err
	}
	found := FileText{Pipe: info.Mode().Type() == fs.ModeNamedPipe}
	if found.Pipe {
		found.Text, err = readPipe(ctx, file)
	} else {
		found.Text, err = readRegular(ctx, file)
	}
	if err != nil {
		return FileText{}, err
	}
	found.Whole = found.Text
	found.Text = bytes.TrimSuffix(bytes.TrimSuffix(found.Text, []byte("\n")), []byte("\r"))
	if len(found.Text) == 0 {
		return FileText{}, errFileEmpty
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

// A fileError says in plain words why a file cannot be opened.
type fileError struct {
	text string
	err  error
}

func (e *fileError) Error() string { return e.text }
func (e *fileError) Unwrap() error { return e.err }

// plainFileError says why a file cannot be opened. For a relative name it adds the folder in which the file was looked for, because a
// service does not run in the folder of its configuration.
func plainFileError(name string, err error) error {
	var text string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = "there is no such file; create it, or correct its path"
	case errors.Is(err, fs.ErrPermission):
		text = fmt.Sprintf("the user of this process (%d) may not read the file; give it to that user, or let its group read it", os.Getuid())
	default:
		return err
	}
	if folder, err := os.Getwd(); err == nil && !filepath.IsAbs(name) {
		text += fmt.Sprintf(" (it is relative, and was looked for in the folder %s; write the whole path)", folder)
	}
	return &fileError{text, err}
}

// readRegular reads a file until it did not change during the read, so that a half-written file is not used.
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

// readPipe reads from a pipe until its writer closes it. Before a writer has opened the pipe, reads report its end.
func readPipe(ctx context.Context, pipe *os.File) ([]byte, error) {
	if limit, ok := ctx.Deadline(); ok {
		// The deadline is a little earlier than the caller's, because the error from here names the cause.
		limit = limit.Add(-time.Until(limit) / 20)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, limit)
		defer cancel()
		_ = pipe.SetReadDeadline(limit) // if a pipe cannot have a deadline, reads do not block either
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

// LoadedFiles reads the files that one configuration names, each once: the writer of a pipe may serve a single reader.
type LoadedFiles map[string]FileText

// Read returns the text that r refers to.
func (l LoadedFiles) Read(r Reference) (FileText, error) {
	if r.Kind == "env" {
		text, err := r.Env()
		return FileText{Text: text, Whole: text}, err
	}
	if found, ok := l[r.Name]; ok {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), FileWait)
	defer cancel()
	go func() { // Caddy cannot end before the load has ended
		for !caddy.Exiting() && pause(ctx) {
		}
		cancel()
	}()
	found, err := ProcessFiles.Get(ctx, r.Name, true)
	if err == nil && l != nil {
		l[r.Name] = found
	}
	return found, err
}

// Resolve replaces Caddy's global placeholders in text when a configuration is loaded. The files that {file.…} names are read
// here, because Caddy would wait forever for one that hangs. A placeholder that is unknown or empty is an error that names it:
// taken literally, it would be a value that no token has.
func (l LoadedFiles) Resolve(text string) (string, error) {
	if !hasPlaceholder(text) {
		return text, nil
	}
	var failed error
	replacer := caddy.NewReplacer().WithoutFile()
	replacer.Map(func(key string) (any, bool) {
		name, isFile := strings.CutPrefix(key, "file.")
		if !isFile {
			return nil, false
		}
		found, err := l.Read(Reference{Kind: "file", Name: name})
		if err != nil && failed == nil {
			failed = fmt.Errorf("{%s}: %w", key, err)
		}
		return string(found.Text), true
	})
	resolved, err := replacer.ReplaceOrErr(text, true, true)
	if failed != nil {
		return "", failed
	}
	return resolved, err
}

// ReadArgument reads a file that an argument of a command names.
func ReadArgument(name string) (FileText, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandFileWait)
	defer cancel()
	return ProcessFiles.Get(ctx, name, true)
}
