//go:build unix

package command

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"syscall"
)

// otherOwner returns the owner of a file, and whether that is another user than the one who runs this process.
func otherOwner(info fs.FileInfo) (name string, other bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return "", false
	}
	name = fmt.Sprintf("#%d", stat.Uid)
	if u, err := user.LookupId(name[1:]); err == nil {
		name = u.Username
	}
	return name, true
}
