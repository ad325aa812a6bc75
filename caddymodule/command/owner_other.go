//go:build !unix

package command

import "io/fs"

// otherOwner reports whether another user owns a file. Where there are no user IDs, nobody does.
func otherOwner(fs.FileInfo) (name string, other bool) { return "", false }
