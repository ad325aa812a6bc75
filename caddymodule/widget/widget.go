// Package widget has messenger-auth.js as one small file, which the control panel hands out. It is a package because a file can be
// embedded only from its own folder.
//
// It does not know the panel, or what the script does. Begin reading with messenger-auth.js, which has the comments.
package widget

import _ "embed" // for the script

// Script is messenger-auth.min.js.
//
//go:embed messenger-auth.min.js
var Script []byte
