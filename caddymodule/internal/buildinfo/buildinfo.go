// Package buildinfo returns the versions from which the running program was built, for "caddy messenger version" and the metric build_info.
//
// It knows the standard library only. Begin reading with [Read].
package buildinfo

import (
	"cmp"
	"regexp"
	"runtime/debug"
)

const (
	module = "github.com/messengerauth/caddy-messenger-auth"
	caddy  = "github.com/caddyserver/caddy/v2"
	jwx    = "github.com/lestrrat-go/jwx/v2"
)

// unknown is the version of a module that was built from a folder, as "go build" in a checkout does before the first tag.
const unknown = "(devel)"

// An Info has the versions of a program.
type Info struct {
	Version string `json:"version"`          // of this module; "(devel)" if it was built from a folder
	Commit  string `json:"commit,omitempty"` // of this module, if it is known
	Go      string `json:"go"`
	Caddy   string `json:"caddy"`
	JWX     string `json:"jwx"`
}

// commit is set by the linker where xcaddy.sh builds from a checkout.
var commit string

// Read returns the versions of the running program.
func Read() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: unknown, Go: unknown, Caddy: unknown, JWX: unknown}
	}
	found := of(info)
	found.Commit = cmp.Or(commit, found.Commit)
	return found
}

// pseudo is a version that the go command makes for a commit without a tag; it ends with the commit.
var pseudo = regexp.MustCompile(`[-.]\d{14}-([0-9a-f]{12})(\+dirty)?$`)

func of(build *debug.BuildInfo) Info {
	info := Info{Version: versionOf(build, module), Go: build.GoVersion, Caddy: versionOf(build, caddy), JWX: versionOf(build, jwx)}
	if found := pseudo.FindStringSubmatch(info.Version); found != nil {
		info.Commit = found[1]
	}
	if build.Main.Path != module {
		return info // the settings are about the program of which this module is a part
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" {
			info.Commit = s.Value
		}
	}
	return info
}

func versionOf(build *debug.BuildInfo, path string) string {
	for _, m := range append(build.Deps, &build.Main) {
		if m.Path != path {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Version != "" {
			return m.Version
		}
	}
	return unknown
}
