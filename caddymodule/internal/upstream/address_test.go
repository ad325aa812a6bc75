package upstream

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// Each row is a way in which some server finds another customer than acme in a path that begins with /acme/.
func TestAmbiguousPathsAreRefused(t *testing.T) {
	for name, paths := range map[string][]string{
		"dot segments":                     {"/acme/../globex/inbox", "/acme/x/../../globex", "/acme/./../globex", "/acme/..", "/acme/../", "/acme/../..", "/../acme/x", "/./acme"},
		"encoded dots":                     {"/acme/%2e%2e/globex", "/acme/.%2E/globex", "/acme/%2e./globex"},
		"an encoded slash":                 {"/acme%2f..%2fglobex/inbox", "/acme/..%2fglobex", "/acme/..%2Fglobex/..", "/acme%2Fx", "/%2Fglobex", "/acme/x%2f..%2f..%2fglobex", "/acme/x/..%2f..%2fglobex"},
		"encoded twice or more":            {"/acme/%252e%252e/globex", "/acme/..%252fglobex", "/acme/%25252e%252e%252fglobex", "/%2561cme%252f..", "/acme/%25u002e%25u002e/globex"},
		"a backslash":                      {"/acme/..%5cglobex", `/acme/..\globex`, "/acme%5c..%5cglobex", "/%5cglobex", "/acme/x%5c..%5c../..", "/acme/..%255Cglobex"},
		"slashes that are merged":          {"//globex/inbox", "/acme//../globex", "/acme/%2f../globex", "/acme///../globex", "/acme/x//../../globex"},
		"parameters of Tomcat":             {"/acme/..;/globex", "/acme/..;a=b/globex", "/acme/%2e%2e;x/globex", "/acme/..%3b/globex", "/acme;x/inbox", "/acme/;x/../globex", "/acme/.;./globex", "/acme/;/../globex", "/acme/;a=b%252fx%5c..", "/acme/a;b%252fx%5c..%5c.."},
		"a path that ends early":           {"/acme/..%00/inbox", "/acme/..%23/inbox", "/acme/..%3Fx/inbox", "/acme/..%2500/inbox", "/acme/%2e%2e%00/acme"},
		"bytes that are dropped":           {"/acme/.%00./globex", "/acme/.%0a./globex", "/acme/.%ff./globex", "/acme/..%20/globex", "/acme/..%09/globex", "/acme/.%e2%80%8b./globex", "/acme/.%c2%ad./globex", "/acme/..+/globex", "/acme/%20/../globex", "/acme/%e0%2f..%2fglobex"},
		"dots at the end, as Windows does": {"/acme/.../globex", "/acme/..../globex", "/acme/.. ./globex"},
		"UTF-8 in more bytes than needed":  {"/acme/%c0%ae%c0%ae/globex", "/acme/..%c0%afglobex", "/acme/%e0%80%ae%e0%80%ae/globex", "/acme/%f0%80%80%ae./globex", "/acme/..%c1%9cglobex", "/acme/..%c0%2fglobex", "/acme/..%c1%1cglobex"},
		"look-alikes":                      {"/acme/%e2%80%a5/globex", "/acme/%ef%bc%8e%ef%bc%8e/globex", "/acme/..%ef%bc%8fglobex", "/acme/%e2%80%a4%e2%80%a4/globex", "/acme/..%ef%bc%bcglobex", "/acme/..%e2%88%95globex", "/acme/..%c2%a5globex"},
		"climbing and coming back":         {"/acme/../globex/../acme/../globex", "/acme/../acme2", "/acme/..%2facme"},
	} {
		for _, text := range paths {
			if !IsAmbiguous(text, 1) {
				t.Errorf("%s: %s passes", name, text)
			}
		}
	}
	for _, text := range []string{"/chat/acme/../globex", "/chat/../x/acme", "/x%2fchat/acme", "/chat//acme", "/chat/acme/../../chat/globex", "/chat/acme/../../x/chat/acme", "/chat/acme/%2e%2e%2f..%2fchat%2fglobex", "/chat;x/acme", "/chat/acme/../chat", "/chat/acme/../../chat/acme"} {
		if !IsAmbiguous(text, 2) {
			t.Errorf("with the messenger in the second part: %s passes", text)
		}
	}
}

// Chats have paths with all kinds of text in them. What can be read in several ways, and leads to acme in all of them, is
// nothing to refuse.
func TestOrdinaryPathsAreAccepted(t *testing.T) {
	for _, text := range []string{
		"/acme", "/acme/", "/acme/inbox", "/acme/inbox/", "/acme//inbox", "/acme/./inbox", "/acme/inbox/../outbox", "/acme/a/b/../../c", "/acme/inbox/..", "/acme/../acme/inbox",
		"/acme/messages/4f3c2a-9", "/acme/a..b", "/acme/..a", "/acme/a..", "/acme/file.tar.gz", "/acme/.well-known/x", "/acme/.hidden", "/acme/v1.2...v1.3", "/acme/x/...",
		"/acme/mark%40example.com", "/acme/mark@example.com", "/acme/mark+chat@example.com", "/acme/a%20b.txt", "/acme/100%25", "/acme/100%2525", "/acme/%E2%82%AC", "/acme/größe", "/acme/gr%C3%B6%C3%9Fe", "/acme/caf%e9",
		"/acme/%E6%97%A5%E6%9C%AC", "/acme/%F0%9F%98%80", "/acme/x/a%2Fb", "/acme/x/a%2Fb%2Fc", "/acme/a%2Fb", "/acme/files%2Fa%2F..%2Fb", "/acme/files/https:%2F%2Fexample.com%2Fa", "/acme/x/a%5cb", "/acme/x/%2Fetc",
		"/acme/inbox;jsessionid=1.2", "/acme/inbox;jsessionid=..", "/acme/;jsessionid=AB.node1.x", "/acme/a;b/c;d", "/acme/what%3F", "/acme/a%23b", "/acme/a:b", "/acme/~mark", "/acme/*", "/acme/(x)", "/acme/a,b", "/acme/%C2%A5100", "/acme/%C2%BD",
		"/a%63me/inbox", "/ACME/inbox", "/", "", "*", "/acme/x%00", "/acme/a%0Ab", "/acme/%E2%80%A6more",
	} {
		if IsAmbiguous(text, 1) {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{"/chat/acme", "/chat/acme/x/../y", "/größe/acme/x", "/v1.2/acme", "/~x/acme/a%2Fb", "/100%25/acme/x", "/chat", "/", "/chat/acme/../acme/x"} {
		if IsAmbiguous(text, 2) {
			t.Errorf("with the messenger in the second part: %s is refused", text)
		}
	}
}

// servers are ways in which software that exists finds the parts of a path, to compare the rule with. Each is written as
// that software works, and shares nothing with the rule.
var servers = func() map[string]func(string) []string {
	decode := func(text string) string {
		if decoded, err := url.PathUnescape(text); err == nil {
			return decoded
		}
		return text
	}
	twice := func(text string) string { return decode(decode(text)) }
	keep := func(text string) string { return text }
	steps := map[string]func(string) string{"": keep, "decoded, ": decode, "decoded twice, ": twice}
	backslashes := func(text string) string { return strings.ReplaceAll(text, `\`, "/") }
	parameters := func(text string) string {
		segments := strings.Split(text, "/")
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
		return strings.Join(segments, "/")
	}
	cString := func(text string) string { text, _, _ = strings.Cut(text, "\x00"); return text }
	ignoring := func(text string) string { return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "") }
	resolve := func(text string) string { // RFC 3986 section 5.2.4, which keeps empty segments
		var out []string
		for _, segment := range strings.Split(strings.TrimPrefix(text, "/"), "/") {
			switch segment {
			case ".":
			case "..":
				out = out[:max(0, len(out)-1)]
			default:
				out = append(out, segment)
			}
		}
		return "/" + strings.Join(out, "/")
	}
	merge := func(text string) string {
		for strings.Contains(text, "//") {
			text = strings.ReplaceAll(text, "//", "/")
		}
		return text
	}
	windows := func(text string) string {
		segments := strings.Split(text, "/")
		for i, segment := range segments {
			if trimmed := strings.TrimRight(segment, " "); trimmed == ".." {
				segments[i] = trimmed
			}
		}
		return strings.Join(segments, "/")
	}
	all := make(map[string]func(string) []string)
	for first, a := range steps {
		for second, b := range map[string]func(string) string{"": keep, "\\, ": backslashes, "parameters, ": parameters, "\\ and parameters, ": func(t string) string { return parameters(backslashes(t)) },
			"NUL ends, ": cString, "dropping, ": ignoring, "Windows, ": func(t string) string { return windows(backslashes(t)) }} {
			for third, c := range map[string]func(string) string{"": keep, "dots": resolve, "slashes": merge, "slashes, dots": func(t string) string { return resolve(merge(t)) }, "dots, slashes": func(t string) string { return merge(resolve(t)) },
				"path.Clean": func(t string) string { return path.Clean("/" + t) }} {
				for fourth, d := range steps { // of the parts, when they are split
					all[first+second+third+"; parts "+fourth] = func(text string) []string {
						parts := strings.Split(strings.TrimPrefix(c(b(a(text))), "/"), "/")
						for i := range parts {
							parts[i] = d(parts[i])
						}
						return parts
					}
				}
			}
		}
	}
	return all
}()

// FuzzPathReading compares the rule with servers. Where one of them finds another messenger than Caddy, which decodes once
// and splits, the path is refused.
func FuzzPathReading(f *testing.F) {
	for _, text := range []string{"/acme/../globex", "/acme/%2e%2e/globex", "/acme%2f..%2fglobex", "//globex", "/acme/..;/globex", "/acme/%252e%252e%255cglobex", "/acme/.%00./x", "/chat/acme/x%2f..%2f../../b", "/acme/%c0%ae./x;y/..", "/a/b/../c/../../a/b"} {
		for parts := range uint8(3) {
			f.Add(text, parts)
		}
	}
	f.Fuzz(func(t *testing.T, text string, count uint8) { checkAgainstServers(t, text, int(count%3)+1) })
}

// The same for paths that are put together from what attackers use. An error names its path.
func TestRandomPathsAgainstServers(t *testing.T) {
	pieces := []string{"acme", "globex", "x", "/", "/", "/", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "%252e", "%252f", "%255c", ";", ";a=b", "%3b", "%00", "%2500", "%20", "%25", "%ff", "%c3%a9", "+", "//", "/../", "\\"}
	for range 2000 {
		text := "/acme/"
		for range rand.IntN(9) {
			text += pieces[rand.IntN(len(pieces))]
		}
		if rand.IntN(3) == 0 {
			text = strings.TrimPrefix(text, "/acme")
		}
		checkAgainstServers(t, text, rand.IntN(3)+1)
	}
}

func checkAgainstServers(t *testing.T, text string, parts int) {
	t.Helper()
	u, err := url.ParseRequestURI(text)
	if err != nil || len(text) > 300 || !strings.HasPrefix(text, "/") {
		return
	}
	sent := u.EscapedPath()
	if IsAmbiguous(sent, parts) {
		return
	}
	own := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	for at := range parts {
		want := ""
		if at < len(own) {
			want = own[at]
		}
		if config.CheckName(ascii.Lower(want)) != nil {
			continue // it is not a messenger's name, and is refused for that
		}
		for name, read := range servers {
			found := ""
			if parts := read(sent); at < len(parts) {
				found = parts[at]
			}
			// What does not decode at all finds the name as it was written.
			if decoded, err := url.PathUnescape(found); found != want && (err != nil || decoded != want) {
				t.Fatalf("%q as %q, part %d of %d: Caddy finds %q, and %q finds %q", text, sent, at, parts, want, name, found)
			}
		}
	}
}

// A path that has only text between its slashes has one reading, however it is encoded.
func FuzzOrdinaryPathPasses(f *testing.F) {
	f.Add("inbox", "größe/x", true)
	f.Fuzz(func(t *testing.T, a, b string, encoded bool) {
		text := "/acme"
		for _, part := range append([]string{a}, strings.Split(b, "/")...) {
			if !strings.ContainsFunc(part, func(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }) || strings.ContainsAny(part, ";?#\\/%\x00") {
				return
			}
			if strings.ContainsFunc(part, func(c rune) bool { kind, _ := kindOf(c); return kind == separates || kind == cuts }) {
				return
			}
			if encoded {
				part = url.PathEscape(part)
			}
			text += "/" + part
		}
		u, err := url.ParseRequestURI(text)
		if err == nil && IsAmbiguous(u.EscapedPath(), 1) {
			t.Errorf("%q is refused", text)
		}
	})
}

// A host that is written with its final dot has the same labels, for us and for what comes behind. An empty label shifts
// all that are counted from the right.
func TestFinalDotOfTheHostIsIgnored(t *testing.T) {
	for host, want := range map[string]string{
		"acme.chat.example": "acme.chat.example", "acme.chat.example.": "acme.chat.example", "ACME.chat.example.:8443": "ACME.chat.example:8443", "acme.chat.example:80": "acme.chat.example:80",
		"[::1]": "[::1]", "[::1]:80": "[::1]:80", "localhost.": "localhost",
		"acme.chat.example..": "", "acme..chat.example": "", ".acme.chat.example": "", ".": "", "": "", "acme.chat.example..:80": "", ":80": "",
	} {
		r := &http.Request{Host: host}
		if ok := DropFinalDot(r); ok != (want != "") || ok && r.Host != want {
			t.Errorf("%q: got %q, %v, want %q", host, r.Host, ok, want)
		}
	}
}

func TestAddressOfAMessenger(t *testing.T) {
	for ref, want := range map[string]Address{
		"{http.request.uri.path.0}":                                {parts: 1},
		"{http.request.uri.path.3}":                                {parts: 4},
		"x-{http.request.uri.path.1}-{http.request.uri.path.0}":    {parts: 2},
		"{http.request.host.labels.2}":                             {labels: true},
		"{http.request.host.labels.2}-{http.request.uri.path.007}": {labels: true, parts: 8},
	} {
		if err := config.CheckNamePattern(ref); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if got := AddressOf(ref); got != want {
			t.Errorf("%s: got %+v, want %+v", ref, got, want)
		}
	}
	// All other placeholders of the path could be read from outside it, or need a rule of their own.
	for _, ref := range []string{"{path}", "{http.request.uri.path}", "{http.request.uri.path_escaped}", "{http.request.orig_uri.path.0}", "{http.request.uri.path.dir}", "{http.request.uri.path.file}", "{http.request.uri.path.-1}", "{http.regexp.x.1}", "{re.1}", "{http.vars.tenant}", "{vars.tenant}",
		"{map_output}", "{http.request.host}", "{http.request.header.X-Tenant}", "{http.request.uri.query.t}", "{http.request.cookie.t}", "{file.x}", "{http.request.uri.path.0", "{}"} {
		if config.CheckNamePattern(ref) == nil {
			t.Errorf("%s may choose the messenger", ref)
		}
	}
}

func BenchmarkAmbiguousPath(b *testing.B) {
	for name, text := range map[string]string{"plain": "/acme/conversations/4f3c2a91/messages", "encoded": "/acme/conversations/mark%40example.com/a%2Fb/..", "long": "/acme/" + strings.Repeat("%25", 2000)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				IsAmbiguous(text, 1)
			}
		})
	}
}
