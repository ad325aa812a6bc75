package buildinfo

import (
	"runtime/debug"
	"testing"
)

// The program is built by xcaddy, from a checkout, from a folder, or with a fork; what is not known is not made up.
func TestVersions(t *testing.T) {
	dep := func(path, version string) *debug.Module { return &debug.Module{Path: path, Version: version} }
	others := []*debug.Module{dep(caddy, "v2.11.9"), dep(jwx, "v2.1.7")}
	settings := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}
	for name, tt := range map[string]struct {
		build debug.BuildInfo
		want  Info
	}{
		"a release that xcaddy has built": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: append([]*debug.Module{dep(module, "v1.2.3")}, others...), Settings: settings},
			Info{Version: "v1.2.3"},
		},
		"a commit that xcaddy has built": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: append([]*debug.Module{dep(module, "v0.0.0-20261126120000-abcdef012345")}, others...)},
			Info{Version: "v0.0.0-20261126120000-abcdef012345", Commit: "abcdef012345"},
		},
		"a folder that xcaddy has built": {
			debug.BuildInfo{Main: debug.Module{Path: "caddy"}, Deps: append([]*debug.Module{{Path: module, Version: "v0.0.0", Replace: &debug.Module{Path: "./x"}}}, others...)},
			Info{Version: unknown},
		},
		"a checkout": {
			debug.BuildInfo{Main: debug.Module{Path: module, Version: "(devel)"}, Deps: others, Settings: settings},
			Info{Version: unknown, Commit: "0123456789abcdef"},
		},
	} {
		tt.build.GoVersion = "go1.26.0"
		tt.want.Go, tt.want.Caddy, tt.want.JWX = "go1.26.0", "v2.11.9", "v2.1.7"
		if got := of(&tt.build); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
	if got := of(new(debug.BuildInfo)); got.Version != unknown || got.Caddy != unknown {
		t.Errorf("nothing is known: got %+v", got)
	}
	if got := Read(); got.Go == "" || got.Version == "" {
		t.Errorf("the test itself: got %+v", got)
	}
}
