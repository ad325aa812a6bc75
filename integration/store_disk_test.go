package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mount mounts something on a folder of the test, or skips the test where that is not possible.
func mount(t testing.TB, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("not run: only root can mount")
	}
	if out, err := exec.Command("mount", append(args, folder)...).CombinedOutput(); err != nil {
		t.Skipf("not run: mounting: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return folder
}

// diskNode is a gateway that stores in folder, with a token of its configured messenger.
func diskNode(t testing.TB, folder string) *node {
	n := newNode(t, caddyBinary(t), nil, "storage file_system "+folder+"\nmessenger {\n poll_interval 200ms\n}\nmessenger support {\n identity_key identity\n shared_token\n}", clusterSite)
	n.run()
	return n
}

// named is a request's token with a jti.
func (s sharedToken) named(jti string) string {
	return sign(s.Token, with(valid("mark"), claims{"jti": jti}))
}

// The disk becomes read-only, or full. Changes are refused, requests go on, what was acknowledged stays, and nothing that was
// refused is left half-way. When the disk works again, so do changes.
func TestUnwritableDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, disk := range map[string]struct {
		breaks, works func(t *testing.T, folder string)
	}{
		"read-only": {
			func(t *testing.T, folder string) { remount(t, folder, "ro") },
			func(t *testing.T, folder string) { remount(t, folder, "rw") },
		},
		"full": {
			func(t *testing.T, folder string) {
				f, err := os.Create(filepath.Join(folder, "ballast"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				for err == nil {
					_, err = f.Write(make([]byte, 4096))
				}
			},
			func(t *testing.T, folder string) {
				if err := os.Remove(filepath.Join(folder, "ballast")); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := mount(t, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
			n := diskNode(t, folder)
			token := n.generate("support")
			n.want(200, "POST", revocationsPath, map[string]any{"jti": "before"})
			disk.breaks(t, folder)
			for i := range 5 {
				n.refused(503, "POST", revocationsPath, map[string]any{"jti": fmt.Sprint("refused", i)})
			}
			n.refused(503, "POST", "messengers/support/tokens/generate", map[string]any{})
			n.expect("200", "/", token.named("other"))
			n.expect("401 token_revoked", "/", token.named("before"))
			disk.works(t, folder)
			patiently(t, "changes succeed again", func() bool {
				a, err := n.operator.send("POST", revocationsPath, map[string]any{"jti": "after"})
				return err == nil && a.status == 200
			})
			check := func() {
				t.Helper()
				n.expect("401 token_revoked", "/", token.named("before"))
				n.expect("401 token_revoked", "/", token.named("after"))
				n.expect("200", "/", token.named("other"))
			}
			check()
			n.kill()
			n.run()
			check()
			for key, value := range files(t, folder) {
				if strings.HasPrefix(key, "messenger/support/") && len(value) == 0 {
					t.Errorf("%s is empty", key)
				}
			}
		})
	}
}

func remount(t *testing.T, folder, how string) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "remount,"+how, folder).CombinedOutput(); err != nil {
		t.Fatalf("remount: %v %s", err, out)
	}
}

// The power fails in the moment in which a change was acknowledged: the block device is copied then, and mounted again. A
// gateway that starts on the copy knows the change, also the very first one of a new storage.
func TestAcknowledgedChangesSurviveAPowerLoss(t *testing.T) {
	if !alone(t) {
		return
	}
	makeFS := requireTool(t, "mkfs.ext4")
	device := filepath.Join(t.TempDir(), "device")
	f, err := os.Create(device)
	if err == nil {
		err = f.Truncate(12 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command(makeFS, "-q", "-F", device).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v %s", err, out)
	}
	// Nothing is written to the device but what is synchronised: the file system itself would do that after a minute.
	folder := mount(t, "-o", "loop,commit=60", device)
	n := diskNode(t, filepath.Join(folder, "store"))
	copies := 0
	powerLoss := func() (after string) {
		t.Helper()
		copies++
		after = filepath.Join(filepath.Dir(device), fmt.Sprint("copy", copies))
		text, err := os.ReadFile(device)
		if err == nil {
			err = os.WriteFile(after, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return after
	}
	token := n.generate("support")
	checks := map[string]func(*node){powerLoss(): func(n *node) { n.expect("200", "/", token.named("a")) }}
	n.want(200, "POST", revocationsPath, map[string]any{"jti": "a"})
	checks[powerLoss()] = func(n *node) { n.expect("401 token_revoked", "/", token.named("a")) }
	n.put("acme", generated)
	acme := n.generate("acme")
	checks[powerLoss()] = func(n *node) { n.expect("200", "/m/acme/x", acme.signed()) }
	n.want(200, "DELETE", "messengers/acme", nil)
	checks[powerLoss()] = func(n *node) { n.expect("404 messenger_unknown", "/m/acme/x", acme.signed()) }
	n.kill()
	for device, check := range checks {
		m := diskNode(t, filepath.Join(mount(t, "-o", "loop", device), "store"))
		check(m)
		m.kill()
	}
}
