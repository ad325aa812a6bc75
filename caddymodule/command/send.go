package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
)

// do sends a request and decodes the answer into answer. condition is a header line such as "If-None-Match: *", or empty.
func (c *client) do(method, path, condition string, body, answer any) error {
	_, err := c.ask(method, path, condition, body, answer)
	return err
}

// ask is do, and returns the header of the answer.
func (c *client) ask(method, path, condition string, body, answer any) (http.Header, error) {
	if !onlyReads(method, path) {
		signal.Ignore(syscall.SIGPIPE) // by which a program ends whose reader has gone: what was changed, and what is left to do, would not be said
	}
	header := make(http.Header)
	header.Set("Connection", "close") // Caddy's client has a connection for each request, and would leave it open
	var text io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		header.Set("Content-Type", "application/json")
		text = bytes.NewReader(encoded)
	}
	if name, value, found := strings.Cut(condition, ": "); found {
		header.Set(name, value)
	}
	if c.service != nil {
		return c.doHere(method, path, header, text, answer)
	}
	return c.send(method, path, header, text, answer)
}

// onlyReads reports whether a request changes nothing.
func onlyReads(method, path string) bool {
	return method == http.MethodGet || path == "export" || path == "explain" || strings.HasSuffix(path, "/explain")
}

// send asks the running gateway.
func (c *client) send(method, path string, header http.Header, text io.Reader, answer any) (answered http.Header, err error) {
	if err := checkAddress(c.address); err != nil {
		return nil, err
	}
	address, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return nil, err
	}
	err = answerWithin(adminWait(path), address, func() error {
		resp, err := caddycmd.AdminAPIRequest(address, method, admin.AdminPath+path, header, text)
		if err != nil {
			return plainError(err)
		}
		defer resp.Body.Close()
		answered = resp.Header
		return json.NewDecoder(resp.Body).Decode(answer)
	})
	if err != nil {
		return nil, err // answered may still be written
	}
	return answered, nil
}

// checkAddress says how an address is written that Caddy would understand in another way.
func checkAddress(address string) error {
	switch {
	case address == "":
		return nil
	case strings.HasPrefix(address, "/"), strings.HasPrefix(address, "./"), strings.HasPrefix(address, "unix:"):
		return errors.New("--address: a Unix socket is written with unix/ in front of its path: --address unix//run/caddy/admin.sock")
	case strings.Contains(address, "://"):
		return errors.New("--address takes host and port, without http://: --address localhost:2019")
	case strings.HasPrefix(address, "unix/"), strings.HasPrefix(address, "unix+"), strings.HasPrefix(address, "fd/"), strings.HasPrefix(address, "fdgram/"):
		return nil
	}
	if strings.Contains(address, "/") {
		return errors.New("--address takes host and port, without a path: --address localhost:2019")
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return errors.New("--address has no port; the admin endpoint is usually localhost:2019")
	}
	return nil
}

// answerWithin returns what request returns, or an error if that takes longer than limit: Caddy's client has no time limit,
// and an endpoint may accept a connection and never answer.
func answerWithin(limit time.Duration, address string, request func() error) error {
	answered := make(chan error, 1)
	go func() { answered <- request() }()
	select {
	case err := <-answered:
		return err
	case <-time.After(limit):
		return fmt.Errorf("the admin endpoint %s has not answered in %s, and may still do what was requested; check whether the gateway or its storage hangs", address, limit)
	}
}

// adminWait is how long the gateway may take to answer. A step of reseal that has reached a messenger with very many values takes longer.
func adminWait(path string) time.Duration {
	switch path {
	case "reseal":
		return 10 * time.Minute
	case "export", "import":
		return 5 * time.Minute
	}
	return time.Minute
}

// doHere asks the service of this process.
func (c *client) doHere(method, path string, header http.Header, text io.Reader, answer any) (http.Header, error) {
	if !onlyReads(method, path) {
		if err := c.place.checkOwner(); err != nil {
			return nil, err
		}
	}
	if text == nil {
		text = http.NoBody
	}
	r, err := http.NewRequest(method, "http://offline"+admin.AdminPath+path, text)
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.RemoteAddr = "offline, uid " + fmt.Sprint(os.Getuid()) // for the audit log
	w := &memoryWriter{header: make(http.Header)}
	if err := c.service.ServeAdmin(w, r); err != nil {
		return nil, err
	}
	return w.header, json.Unmarshal(w.body.Bytes(), answer)
}

// A memoryWriter keeps the body of an answer.
type memoryWriter struct {
	header http.Header
	body   bytes.Buffer
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(int) {}

func (w *memoryWriter) Write(text []byte) (int, error) { return w.body.Write(text) }
