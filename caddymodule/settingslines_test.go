package caddymodule_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
)

// A line is an option with its arguments.
type line struct {
	block, name string
	args        []string
	inner       []line // of a block that has blocks itself
}

// linesOf are the options that make v, a Messenger or a block of one.
func linesOf(t *testing.T, v reflect.Value, block string) (lines []line) {
	t.Helper()
	for i := range v.NumField() {
		name, field := configtest.Member(t, v.Type().Field(i)), v.Field(i)
		if field.IsZero() || block == "jwks" && name == "url" || block == "shared_token" && name != "alg" { // arguments of the block's line
			continue
		}
		add := func(args ...string) { lines = append(lines, line{block, name, args, nil}) }
		switch value := field.Interface().(type) {
		case string:
			add(value)
		case config.Mode:
			add(string(value))
		case config.Roots:
			add(string(value))
		case []config.RequestHeader:
			for _, header := range value {
				add(header.Name, string(header.Value))
			}
		case []string:
			add(value...)
		case caddy.Duration:
			add(time.Duration(value).String())
		case *caddy.Duration:
			add(time.Duration(*value).String())
		case *config.FailLimit:
			add(fmt.Sprintf("%d/%s", value.Attempts, time.Duration(value.Window)))
		case *config.SharedToken:
			add(slices.DeleteFunc([]string{value.Token, string(value.Encoding)}, func(s string) bool { return s == "" })...)
			lines = append(lines, linesOf(t, reflect.ValueOf(value).Elem(), name)...)
		case []config.PublicKey:
			for _, key := range value {
				add(key.Key, "kid", key.KeyID, "alg", key.Alg)
			}
		case *config.Previous:
			inner := linesOf(t, reflect.ValueOf(&config.Messenger{PublicKey: value.PublicKey, JWKS: value.JWKS, SharedToken: value.SharedToken}).Elem(), "")
			lines = append(lines, line{block, name, []string{value.Until.Format(time.RFC3339)}, inner})
		case *config.JWKS:
			add(slices.DeleteFunc([]string{value.URL}, func(s string) bool { return s == "" })...)
			lines = append(lines, linesOf(t, reflect.ValueOf(value).Elem(), name)...)
		default:
			t.Fatalf("%s is a %T; say here how an option gives one", name, value)
		}
	}
	return lines
}

func caddyfileOf(lines []line) string {
	return "{\nmessenger acme {\n" + optionsOf(lines) + "}\n}\n"
}

func optionsOf(lines []line) string {
	var b, block strings.Builder
	write := func(b *strings.Builder, l line) {
		b.WriteString(l.name)
		for _, arg := range l.args {
			b.WriteString(" `" + arg + "`")
		}
	}
	for _, l := range lines {
		if l.block != "" {
			write(&block, l)
			block.WriteByte('\n')
		}
	}
	for _, l := range lines {
		if l.block == "" {
			write(&b, l)
			if (l.name == "jwks" || l.name == "shared_token") && block.Len() > 0 {
				b.WriteString(" {\n" + block.String() + "}")
			}
			if l.inner != nil {
				b.WriteString(" {\n" + optionsOf(l.inner) + "}")
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// flagsOf are the flags of create for the same.
func flagsOf(t *testing.T, lines []line) (flags []string) {
	t.Helper()
	for _, l := range lines {
		name := strings.ReplaceAll(strings.TrimPrefix(l.block+"-"+l.name, "-"), "_", "-")
		switch l.name {
		case "previous": // it is what --keep-previous makes of the messenger before
		case "shared_token":
			flags = append(flags, "--"+name)
		case "ca":
			file := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(file, []byte(l.args[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			flags = append(flags, "--"+name, file)
		case "header":
			flags = append(flags, "--"+name, l.args[0]+": "+l.args[1])
		case "public_key":
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, []byte(l.args[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			flags = append(flags, "--"+name, file, "--kid", l.args[2], "--alg", l.args[4])
		default:
			for _, arg := range l.args {
				flags = append(flags, "--"+name, arg)
			}
		}
	}
	return flags
}
