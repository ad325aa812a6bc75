package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A library signs a token with what is in the environment: HS256 with SECRET, and RS256 with the file KEY.
var libraries = map[string]struct{ program, language string }{
	"jsonwebtoken": {"const jwt = require('jsonwebtoken'), e = process.env\n" +
		"console.log(jwt.sign({ identity: 'mark' }, e.SECRET, { algorithm: 'HS256', expiresIn: '10m' }))\n" +
		"console.log(jwt.sign({ identity: 'mark' }, require('node:fs').readFileSync(e.KEY), { algorithm: 'RS256', expiresIn: '10m' }))\n", "node"},
	"PyJWT": {"import jwt, os, time\nc = {'identity': 'mark', 'iat': int(time.time()), 'exp': int(time.time()) + 600}\n" +
		"print(jwt.encode(c, os.environ['SECRET'], algorithm='HS256'))\nprint(jwt.encode(c, open(os.environ['KEY']).read(), algorithm='RS256'))\n", "python"},
	"php-jwt": {"<?php require getenv('AUTOLOAD'); $c = ['identity' => 'mark', 'iat' => time(), 'exp' => time() + 600];\n" +
		"echo Firebase\\JWT\\JWT::encode($c, getenv('SECRET'), 'HS256'), \"\\n\", Firebase\\JWT\\JWT::encode($c, file_get_contents(getenv('KEY')), 'RS256');\n", "php"},
}

// A site that has a library for its tokens uses that, and the example gateway takes what it signs, with both methods.
func TestUsualLibrariesSignTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	secret := newSecret()
	g := startExample(t, secret)
	for name, library := range libraries {
		t.Run(name, func(t *testing.T) {
			dir := demoFolder(t, secret)
			file := filepath.Join(dir, "sign.cjs")
			writeSample(t, file, library.program)
			cmd, autoload := exec.Command(library.language, file), ""
			var err error
			switch name {
			case "jsonwebtoken":
				err = probe("node", dir, "node", "-e", "require('jsonwebtoken')") // found by NODE_PATH
			case "PyJWT":
				cmd, err = pythonWithJWT(dir, file)
			case "php-jwt":
				autoload, err = phpAutoload()
			}
			if err != nil {
				if name != "php-jwt" || os.Getenv("COMPOSER_VENDOR_DIR") != "" { // it is not in every release of Debian
					lacks(t, library.language, err)
				}
				t.Skipf("not run: %s is not installed: %v", name, err)
			}
			cmd.Env = append(os.Environ(), "SECRET="+secret, "KEY="+filepath.Join(dir, "demo", "support.key.pem"), "AUTOLOAD="+autoload)
			out, err := command(dir, cmd)
			tokens := strings.Fields(out)
			if err != nil || len(tokens) != 2 {
				t.Fatalf("got %d words, want two tokens: %v\n%s", len(tokens), err, out)
			}
			for i, path := range []string{"/sales/hello", "/support/hello"} {
				search.secret(tokens[i])
				if a := g.get(path, bearer(tokens[i])); a.status != 200 || !strings.Contains(a.body, "identity:      mark\n") {
					t.Errorf("%s: got %d %s", path, a.status, a.body)
				}
			}
		})
	}
}

// pythonWithJWT returns the command that runs a program that needs PyJWT.
func pythonWithJWT(dir, file string) (cmd *exec.Cmd, err error) {
	// Debian's packages belong to Debian's Python, which is not always the first in PATH.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if err = probe("python", dir, python, "-c", "import jwt, cryptography"); err == nil {
			return exec.Command(python, file), nil
		}
	}
	return nil, err
}

// phpAutoload returns Composer's file, or that of Debian.
func phpAutoload() (string, error) {
	for _, autoload := range []string{filepath.Join(os.Getenv("COMPOSER_VENDOR_DIR"), "autoload.php"), "/usr/share/php/Firebase/JWT/autoload.php"} {
		if _, err := os.Stat(autoload); err == nil && filepath.IsAbs(autoload) {
			return autoload, nil
		}
	}
	return "", os.ErrNotExist
}

// sample returns the documented program in that language.
func sample(t *testing.T, language string) string {
	t.Helper()
	return docsSample(t, language)
}

// demoFolder returns a folder with the keys of the demo where the samples look for them.
func demoFolder(t *testing.T, secret string) string {
	t.Helper()
	dir := t.TempDir()
	writeSample(t, filepath.Join(dir, "demo", "support.key.pem"), string(privatePEM(rsaKey(0))))
	writeSample(t, filepath.Join(dir, "demo", "sales.token"), secret+"\n")
	return dir
}

func writeSample(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command returns what cmd prints, and what it complains about if it fails.
func command(dir string, cmd *exec.Cmd) (string, error) {
	cmd.Dir = dir
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return string(out) + complaints.String(), err
	}
	return string(out), nil
}

// interpreter returns the command that runs a program that needs no library.
func interpreter(dir, language, file string) (*exec.Cmd, error) {
	program := language
	switch language {
	case "python":
		program = "python3"
	case "go":
		if err := usable(language, program); err != nil {
			return nil, err
		}
		binary := strings.TrimSuffix(file, ".go") + ".exe"
		if out, err := command(".", exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, file)); err != nil {
			return nil, fmt.Errorf("building: %w\n%s", err, out)
		}
		return exec.Command(binary), nil
	}
	return exec.Command(program, file), probe(language, dir, program, "--version")
}

// verifier returns the command that runs a program that verifies assertions.
func verifier(dir, language, file string) (*exec.Cmd, error) {
	switch language {
	case "python":
		return pythonWithJWT(dir, file)
	case "php":
		if err := probe("php", dir, "php", "-r", "exit(function_exists('sodium_base642bin') ? 0 : 1);"); err != nil {
			return nil, err
		}
	case "java":
		return javaSource(file)
	}
	return interpreter(dir, language, file)
}

// javaSource returns the command that runs a source file, as a program that does not run for long.
func javaSource(file string) (*exec.Cmd, error) {
	cmd := exec.Command("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", file)
	return cmd, usable("java", "javac") // a runtime without a compiler cannot run it
}
