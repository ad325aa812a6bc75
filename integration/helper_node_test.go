package integration

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A node is a gateway in a process of its own.
type node struct {
	*gateway
	*operator
	binary, dir, config string
	env                 []string // more variables for its environment
	cmd                 *exec.Cmd
	output              *os.File
	exited              chan struct{}
}

// newNode prepares a node with global options and a site. It does not run yet. In both texts UPSTREAM and DIR are
// replaced as for start.
func newNode(t testing.TB, binary string, up *upstream, options, site string) *node {
	t.Helper()
	dir := gatewayFolder(t)
	n := &node{binary: binary, dir: dir, config: filepath.Join(dir, "Caddyfile")}
	n.gateway = &gateway{t: t, addr: freeAddr(t), log: filepath.Join(dir, "caddy.log"), sock: filepath.Join(sockDir, strings.ReplaceAll(freeAddr(t), ":", "-"))}
	n.url = "http://" + n.addr
	n.operator = n.gateway.operator()
	upstreamAddr := ""
	if up != nil {
		upstreamAddr = up.addr
	}
	text := replaceWords(n.caddyfile(options, site), "UPSTREAM", upstreamAddr, "DIR", dir)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.kill()
		keepLog(t, n.log)
		keepLog(t, filepath.Join(dir, "output"))
	})
	return n
}

// environment keeps a node's own files in its folder.
func (n *node) environment() []string {
	return append(append(os.Environ(), "XDG_CONFIG_HOME="+n.dir, "XDG_DATA_HOME="+n.dir, "HOME="+n.dir), n.env...)
}

// run starts the node and waits until its admin endpoint answers.
func (n *node) run() {
	n.gateway.t.Helper()
	if err := n.tryRun(); err != nil {
		n.gateway.t.Fatal(err)
	}
}

// tryRun is run for goroutines other than the test's own.
func (n *node) tryRun() error {
	var err error
	if n.output, err = os.OpenFile(filepath.Join(n.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	_ = os.Remove(n.gateway.sock) // of a process that was killed
	n.cmd = exec.Command(n.binary, "run", "--config", n.config, "--adapter", "caddyfile")
	n.cmd.Dir, n.cmd.Env = n.dir, n.environment()
	n.cmd.Stdout, n.cmd.Stderr = n.output, n.output
	if err := n.cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	n.exited = exited
	cmd := n.cmd
	go func() {
		_ = cmd.Wait() // being killed is no error here
		close(exited)
	}()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-exited:
			text, _ := os.ReadFile(filepath.Join(n.dir, "output"))
			log, _ := os.ReadFile(n.gateway.log)
			return fmt.Errorf("the node ended at once: %v\n%s\n%s", cmd.ProcessState, text, log)
		default:
		}
		if a, err := n.operator.send("GET", "connections", nil); err == nil && a.status == http.StatusOK {
			return nil
		}
	}
	return errors.New("the node does not answer")
}

// kill ends the node without a warning.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.exited
	n.output.Close()
	n.cmd = nil
}
