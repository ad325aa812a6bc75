package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const widgetFolder = "../caddymodule/widget"

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// installWidget makes a program's folder with the package in it, as npm installs it: the files that package.json names.
func installWidget(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	installed := filepath.Join(folder, "node_modules", "messenger-auth")
	manifest := readText(t, filepath.Join(widgetFolder, "package.json"))
	_, files, _ := strings.Cut(manifest, `"files"`)
	names := regexp.MustCompile(`"([\w.-]+)"`).FindAllStringSubmatch(files, -1)
	if len(names) != 3 {
		t.Fatalf("package.json names the files %q", names)
	}
	for _, name := range names {
		writeSample(t, filepath.Join(installed, name[1]), readText(t, filepath.Join(widgetFolder, name[1])))
	}
	writeSample(t, filepath.Join(installed, "package.json"), manifest)
	writeSample(t, filepath.Join(folder, "package.json"), `{"type": "module"}`)
	writeSample(t, filepath.Join(folder, "program.ts"), readText(t, "testdata/widget/program.ts"))
	return folder
}

// The helper is for pages that load it before anything else works.
func TestHelperIsSmall(t *testing.T) {
	if !alone(t) {
		return
	}
	if small := readText(t, filepath.Join(widgetFolder, "messenger-auth.min.js")); len(small) > 4<<10 {
		t.Errorf("messenger-auth.min.js has %d bytes, and may have 4 KiB", len(small))
	}
}

// The small form of the helper is that of its source, and a bundle of a program that uses all of it adds nothing.
func TestHelperIsBundled(t *testing.T) {
	if !alone(t) {
		return
	}
	esbuild := requireTool(t, "esbuild")
	arguments := []string{"--bundle", "--minify", "--format=esm", "--log-level=warning"}
	small, err := command(".", exec.Command(esbuild, append(arguments, filepath.Join(widgetFolder, "messenger-auth.js"))...))
	if err != nil || small != readText(t, filepath.Join(widgetFolder, "messenger-auth.min.js")) {
		t.Errorf("messenger-auth.min.js is not made of messenger-auth.js: in caddymodule/widget, run\n"+
			"esbuild --bundle --minify --format=esm messenger-auth.js --outfile=messenger-auth.min.js\n%v", err)
	}
	folder := installWidget(t)
	out, err := command(folder, exec.Command(esbuild, append(arguments, "program.ts")...))
	own := len(readText(t, filepath.Join(folder, "program.ts")))
	if err != nil || len(out) > 4<<10+own || !strings.Contains(out, "Last-Event-ID") {
		t.Errorf("the bundle of the program has %d bytes, %v\n%s", len(out), err, out)
	}
	writeSample(t, filepath.Join(folder, "socket.js"), "import { connect } from 'messenger-auth'\nconnect({})\n")
	if out, err = command(folder, exec.Command(esbuild, append(arguments, "socket.js")...)); err != nil || strings.Contains(out, "Last-Event-ID") {
		t.Errorf("a page with a socket only gets all of it: %v\n%s", err, out)
	}
}

// The types fit a program that uses all of the package, with every check of the compiler, and refuse its mistakes.
func TestHelperHasTypes(t *testing.T) {
	if !alone(t) {
		return
	}
	tsc, folder := requireTool(t, "tsc"), installWidget(t)
	for _, resolution := range []string{"bundler", "nodenext"} {
		arguments := []string{"--noEmit", "--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--skipLibCheck", "false",
			"--target", "es2022", "--lib", "es2022,dom", "--types", "", "--moduleResolution", resolution, "--module", map[string]string{"bundler": "esnext", "nodenext": "nodenext"}[resolution]}
		if out, err := command(folder, exec.Command(tsc, append(arguments, "program.ts")...)); err != nil {
			t.Errorf("%s: %v\n%s", resolution, err, out)
		}
	}
}
