package integration

import (
	"fmt"
	"strings"
	"testing"
)

// The helper reads a stream as the browser does: whatever its line breaks, its fields, and the pieces in which it arrives.
func TestHelperReadsStreamsAsTheBrowserDoes(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	streams := []string{
		"data: one\n\ndata: two\n\n", "data:one\r\n\r\ndata:  two\r\n\r\n", "data: one\r\rdata: two\r\r", "data: a\ndata: b\n\ndata\n\ndata:\n\n",
		": comment\n\nevent: x\ndata: typed\n\ndata: untyped\n\n", "event: x\n\ndata: the type is gone\n\n", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
		"id: 7\n\ndata: later\n\n", "id: 1\ndata: a\n\nid: 2\ndata: cut", "id: 1\x00\ndata: nul\n\n", "\ufeffdata: mark\n\n", "unknown: x\nData: x\ndata : x\ndata: x: y\n\n",
		"data: \u2028 \u00e4 \U0001f600\n\nid: \u00e4\ndata: x\n\n", "event: auth\ndata: token_expired\n\n", "\n\n\r\r\n\ndata: x\n\n\n",
	}
	got := map[bool]string{}
	for i, stream := range streams {
		apart := strings.Join(strings.Split(stream, ""), "|")
		for _, whole := range []bool{true, false} {
			body := stream
			if !whole {
				body = apart
			}
			s.answer("200\n" + body)
			got[whole] = strings.Join(try(t, tab, `const heard = []
				const s = listen({ url: '/events', token: () => '`+unsigned(600)+`', onmessage: (_, { type, data, lastEventId }) => heard.push([type, data, lastEventId]) })
				await until(() => s.closed.length)
				s.chat.close()
				const theirs = []
				const source = new EventSource('/events')
				for (const type of ['message', 'x', 'auth']) source.addEventListener(type, ({ data, lastEventId }) => theirs.push([type, data, lastEventId]))
				await new Promise((done) => (source.onerror = done))
				source.close()
				return [JSON.stringify(heard), JSON.stringify(theirs)]`), "\n")
			ours, theirs, _ := strings.Cut(got[whole], "\n")
			if ours != theirs {
				t.Errorf("stream %d %q: the helper has %s, and the browser %s", i, body, ours, theirs)
			}
		}
		if got[true] != got[false] {
			t.Errorf("stream %d %q: whole it is %s, in pieces %s", i, stream, got[true], got[false])
		}
	}
}

// A stream ends in every way that it can. Each next one begins after the last whole event, and not before the time that the server
// has named.
func TestHelperResumesStreams(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	s.answer("200\nretry: 2000\nretry: 1e9\nretry: Infinity\nretry: -1\nretry: 0x10\nid: 1\ndata: a\n\nid: 2\ndata: b\n", "503 Retry-After=7 Content-Type=application/problem+json\n{\"code\": \"keys_unavailable\"}",
		"200\nid: 2\ndata: b\n\nevent: auth\ndata: token_expired\n\n", "401\n{\"code\": \"token_expired\"}", "429 Retry-After=Thu\n", "401\n<html>",
		"200\nid: \u00e4\ndata: c\n\nevent: auth\ndata: session_limit\n\n", "200\ndata: d\n\nevent: auth\ndata: token_revoked\n\n")
	got := try(t, tab, `waits.length = 0
		const s = listen({ url: '/events', token: () => '\n`+unsigned(600)+` ', lastEventId: '0' })
		await until(() => s.closed.at(-1)?.retrying === false)
		const retries = waits.filter((ms) => ms < 30000)
		const least = [2000, 7000, 2000, 0, 0, 0, 0] // after each
		return [...said(s), s.messages.join(), String(retries.every((ms, n) => ms > least[n] && ms <= least[n] + 30000) && retries[1] < 7000 + 4000)]`)
	expect(t, "the page", got, "1006  true", "503 keys_unavailable true", "4401 token_expired true", "401 token_expired true", "429  true", "401  true",
		"1013 session_limit true", "4403 token_revoked false", "a,b,token_expired,c,session_limit,d,token_revoked", "true")
	var ids []string
	for _, r := range s.requests(t, 8) {
		ids = append(ids, r.Header.Get("Last-Event-Id"))
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ey") || strings.Contains(r.URL.String(), "ey") || r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("a request for %s with %v", r.URL, r.Header)
		}
	}
	expect(t, "last ids", ids, "0", "1", "1", "2", "2", "2", "2", "\u00e4")
}

// Answers after which trying again cannot help, or can, and what the page is told of them: never a part of the token.
func TestHelperReportsRefusedStreams(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	token := unsigned(600)
	for answer, want := range map[string]string{
		"204": "0 options_invalid false", "200 Content-Type=text/html\n" + token: "0 options_invalid false", "404\n" + token: "404  false",
		"403\n{\"code\": \"origin_not_allowed\"}": "403 origin_not_allowed false", "401\n{\"code\": \"signature_invalid\"}": "401 signature_invalid false",
		"400\n{\"code\": \"" + token + "\"}": "400  false", "429 Retry-After=1\n{\"code\": \"too_many_requests\"}": "429 too_many_requests true",
		"500\nnull": "500  true", "401\n{\"code\": \"ticket_used\"}": "401 ticket_used true",
		"200\nevent: auth\ndata: " + token + "\n\n": "1006  true", "200\nevent: auth\ndata: too_many_connections\n\n": "1013 too_many_connections true",
	} {
		s.answer(answer)
		got := try(t, tab, "const s = listen({ url: '/events', token: () => '"+token+"' }); await until(() => s.closed.length); s.chat.close(); return said(s).slice(0, 1)")
		expect(t, answer, got, want)
	}
	got := try(t, tab, "const s = listen({ url: 'https://"+token+":x/', token: () => '"+token+"' }); await until(() => s.closed.length); return said(s)")
	expect(t, "an address that is none", got, "0 options_invalid false")
	s.answer("200\ndata: a\n\ndata: b\n\n|")
	got = try(t, tab, "const s = listen({ url: '/events', token: () => '"+token+"', onmessage: (s) => s.chat.close() }); await until(() => s.messages.length); await pause(100); return [...s.messages, ...said(s)]")
	expect(t, "a page that closes it in the first event", got, "a")
}

// Every attempt has a ticket of its own for its path, and no token; a refused request for one is told and waited for like any other.
func TestHelperOpensEachConnectionWithAFreshTicket(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	token := unsigned(600)
	for name, options := range map[string]string{
		"events": "listen({ url: '/events?a=%20b', ticket: true, token })", "socket": "start({ url: '" + s.sockets + "/socket?a=%20b&code=1012', ticket: '" + s.url + "/ticket', token })",
	} {
		s.answer("503\n")
		got := try(t, tab, "const token = () => '"+token+"'; const s = "+options+"; await until(() => s.closed.length > 2); s.chat.close(); return [String(s.tokens >= 3)]")
		expect(t, name, got, "true")
		tickets := map[string]bool{}
		given := 0
		for _, r := range s.requests(t, 6) {
			text := fmt.Sprint(r.URL, r.Header)
			if r.URL.Path == "/ticket" {
				given++
				if want := `{"path":"/` + name + `"}`; r.Header.Get("Authorization") != "Bearer "+token || r.Header.Get("Test-Body") != want {
					t.Errorf("%s: a request for a ticket with %q and %v", name, r.Header.Get("Test-Body"), r.Header)
				}
				continue
			}
			if ticket := r.URL.Query().Get("ticket"); strings.Contains(text, token) || tickets[ticket] || ticket == "" || !strings.HasPrefix(r.URL.RawQuery, "a=%20b&") {
				t.Errorf("%s: opened with %s", name, text)
			} else {
				tickets[ticket] = true
			}
		}
		if given < len(tickets) || len(tickets) < 3 {
			t.Errorf("%s: %d tickets for %d attempts", name, given, len(tickets))
		}
	}
	got := try(t, tab, "const s = start({ url: '"+s.sockets+"/socket', ticket: '/none', token: () => '"+token+"' }); await ended(s); return said(s)")
	expect(t, "a desk that is not there", got, "404  false")
}

// The network is there again, or the page is looked at: what waits tries again at once, unless the server has named a time, and
// what is open is opened again, because it may be dead.
func TestHelperReconnectsWhenOnlineOrVisible(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	options := "token: () => '" + unsigned(600) + "' })"
	for _, event := range []string{"window.dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))"} {
		s.answer("503\n", "200\ndata: a\n\n|")
		got := try(t, tab, "faster = 0.001; const s = listen({ url: '/events', "+options+"; await until(() => s.closed.length); await pause(50); "+event+
			"; await until(() => s.opened); s.chat.close(); return [...said(s), String(s.opened)]")
		expect(t, event, got, "503  true", "1")
		s.answer("503 Retry-After=60\n", "200\ndata: a\n\n|")
		got = try(t, tab, "const s = listen({ url: '/events', "+options+"; await until(() => s.closed.length); "+event+
			"; await pause(200); s.chat.close(); "+event+"; await pause(50); return [String(s.opened), String(s.tokens)]")
		expect(t, event+" before the time", got, "0", "1")
	}
	s.answer("200\nid: 5\ndata: a\n\n|")
	got := try(t, tab, "const s = listen({ url: '/events', "+options+"; await until(() => s.messages.length || s.closed.length); if (!s.messages.length) return said(s); dispatchEvent(new Event('visibilitychange')); await pause(50); dispatchEvent(new Event('online'));"+
		"await until(() => s.messages.length > 1); s.chat.close(); return [String(s.opened), ...said(s)]")
	expect(t, "an open stream", got, "2")
	if r := s.requests(t, 2); len(r) != 2 || r[1].Header.Get("Last-Event-Id") != "5" {
		t.Errorf("%d requests", len(r))
	}
	got = try(t, tab, "faster = 50; const s = start({ url: '"+s.sockets+"/socket', "+options+"; await until(() => s.opened); dispatchEvent(new Event('online'));"+
		"await until(() => s.opened > 1); s.chat.close(); return [String(s.opened), ...said(s)]")
	expect(t, "an open socket", got, "2")
}
