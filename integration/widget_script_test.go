package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A token in a reason ends up in the logs of the site and of those who count its errors. Whatever goes wrong, and whatever
// the token function and the server say, the page gets a code word.
func TestHelperReportsCodeWordsOnly(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	token := unsigned(600)
	for name, test := range map[string]struct{ options, want string }{
		"a token with a comma":            {"url: URL + '/socket', token: () => TOKEN + ',' + TOKEN", "0 token_invalid true"},
		"a token with a line break in it": {"url: URL + '/socket', token: () => TOKEN.replace('.', '\\n.')", "0 token_invalid true"},
		"an error page":                   {"url: URL + '/socket', token: () => '<html>' + TOKEN", "0 token_invalid true"},
		"nothing":                         {"url: URL + '/socket', token: () => undefined", "0 token_invalid true"},
		"no text":                         {"url: URL + '/socket', token: () => ({ token: TOKEN })", "0 token_invalid true"},
		"an exception":                    {"url: URL + '/socket', token: () => { throw new Error(TOKEN) }", "0 token_unavailable true"},
		"a rejection":                     {"url: URL + '/socket', token: () => Promise.reject(TOKEN)", "0 token_unavailable true"},
		"a rejected header":               {"url: URL + '/socket', token: () => fetch('/', { headers: { 'X-Token': TOKEN + '\\n.' } })", "0 token_unavailable true"},
		"a promise that stays one":        {"url: URL + '/socket', token: () => new Promise(() => {})", "0 timeout true"},
		"a server that does not answer":   {"url: URL + '/hang', token: () => TOKEN", "0 timeout true"},
		"an address that is none":         {"url: 'wss://' + TOKEN + ':x', token: () => TOKEN", "0 options_invalid false"},
		"a subprotocol twice":             {"url: URL + '/socket', protocols: [TOKEN], token: () => TOKEN", "0 options_invalid false"},
		"a server that repeats the token": {"url: URL + '/socket?code=1013&reason=' + TOKEN.slice(30, 150), token: () => TOKEN", "1013  true"},
		"a server with free text":         {"url: URL + '/socket?code=1013&reason=come%20back%20later', token: () => TOKEN", "1013  true"},
		"a server with a code word":       {"url: URL + '/socket?code=1013&reason=keys_unavailable', token: () => TOKEN", "1013 keys_unavailable true"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.want == "0 timeout true" {
				try(t, tab, "limit = 600; return []")
				defer try(t, tab, "limit = 3000; return []")
			}
			options := strings.NewReplacer("URL", "'"+s.sockets+"'", "TOKEN", "'"+token+"'").Replace(test.options)
			got := try(t, tab, "const s = start({"+options+"}); await until(() => s.closed.length); s.chat.close(); return said(s).slice(0, 1)")
			expect(t, "the page", got, test.want)
		})
	}
}

// Tokens come out of files and functions with line breaks around them.
func TestHelperTrimsTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	got := try(t, tab, `const s = start({ url: '`+s.sockets+`/socket?echo', token: () => ' \r\n`+unsigned(600)+`\n' })
		s.chat.send('hello')
		await until(() => s.messages.length || s.closed.length)
		s.chat.close()
		return [...s.messages, ...said(s)]`)
	expect(t, "the page", got, "hello")
}

// The page tries again where a fresh token or time can help, and where no token can it says so and stops.
func TestHelperRetriesOnlyWhenItCanHelp(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	fixable := map[string]bool{"token_expired": true, "token_not_yet_valid": true, "token_revoked": true, "key_unknown": true,
		"ticket_expired": true, "ticket_used": true, "ticket_invalid": true}
	type closing struct {
		code    int
		reason  string
		retried bool
	}
	closings := []closing{
		{1000, "", false}, {1001, "", true}, {1006, "", true}, {1011, "", false}, {1012, "", true}, {1013, "keys_unavailable", true},
		{4401, "", false}, {4401, "of_the_backend", false}, {4403, "origin_not_allowed", false}, {4403, "token_revoked", false}, {4408, "session_limit", true},
		{4429, "too_many_connections", true},
		{4000, "of_the_backend", false},
	}
	for _, row := range regexp.MustCompile("<a id=\"(\\w+)\"></a>`\\w+` \\| (\\d+) \\|").FindAllStringSubmatch(docsPage(t, "errors"), -1) {
		switch code, status := row[1], row[2]; status {
		case "403", "429", "503": // other close codes
		default:
			closings = append(closings, closing{4401, code, fixable[code]})
		}
	}
	if len(closings) < 25 {
		t.Fatalf("only %d closings; the table of codes was not read", len(closings))
	}
	for _, c := range closings {
		t.Run(fmt.Sprint(c.code, " ", c.reason), func(t *testing.T) {
			before := s.counted(&s.dialed)
			got := try(t, tab, fmt.Sprintf(`settle = 3000
				const s = start({ url: '%s/socket?code=%d&reason=%s', token: () => '%s' })
				await until(() => s.closed.length > 1 || s.closed[0]?.retrying === false)
				if (!s.closed.at(-1).retrying) await pause(200) // in which it would try again four times
				const taken = s.chat.send('x')
				s.chat.close()
				return [said(s)[0], String(taken), String(s.opened)]`, s.sockets, c.code, c.reason, unsigned(600)))
			expect(t, "the page", got, fmt.Sprintf("%d %s %t", c.code, c.reason, c.retried), fmt.Sprint(c.retried), "0")
			if n := s.counted(&s.dialed) - before; (n > 1) != c.retried {
				t.Errorf("it dialed %d times", n)
			}
		})
	}
	if sent := s.take(); len(sent) > 0 {
		t.Errorf("%q were sent into sockets that were refused", sent)
	}
}

// A site gives the same expired token again and again. The page gives up, and does so after it has waited longer and longer,
// never the same time as the other pages.
func TestHelperGivesUpOnTokensThatStayExpired(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	got := try(t, tab, `faster = 250
		settle = 3000
		waits.length = 0
		const s = start({ url: '`+s.sockets+`/socket?code=4401&reason=token_expired', token: () => '`+unsigned(600)+`' })
		await ended(s)
		const retries = waits.filter((ms) => ms !== 300 && ms !== 30000)
		const bounded = retries.every((ms, n) => ms >= Math.min(30, 2 ** n) * 500 && ms <= Math.min(30, 2 ** n) * 1000)
		return [String(s.tokens), String(s.closed.length), String(retries.length), String(bounded), String(new Set(retries.map((ms) => ms % 1)).size)]`)
	expect(t, "tokens, refusals, waits", got, "10", "10", "9", "true", "9")

	got = try(t, tab, `const s = start({ url: '`+s.sockets+`/socket', token: () => '' })
		await ended(s)
		return [String(s.tokens), said(s).at(-1)]`)
	expect(t, "without a token", got, "10", "0 token_invalid false")

	got = try(t, tab, `settle = 300
		const s = start({ url: '`+s.sockets+`/socket?echo', token: (n) => { if (n < 15) throw new Error('offline'); return '`+unsigned(600)+`' } })
		s.chat.send('hello')
		await until(() => s.messages.length)
		s.chat.close()
		return [String(s.tokens), String(s.closed.every(({ retrying }) => retrying)), ...s.messages]`)
	expect(t, "after a long time offline", got, "16", "true", "hello")

	// Renewals that failed, and then did not, are forgotten when the socket breaks later. The last token is not renewed before.
	got = try(t, tab, `let retry
		faster = 50
		const s = start({ url: '`+s.sockets+`/socket?code=1012&after=break', token: (n) => { if (n > 0 && n < 5) throw 0; return n ? '`+unsigned(6000)+`' : '`+unsigned(5)+`' },
			onclose(s) { if (s.opened > 1) retry ??= waits.at(-1) } })
		await until(() => s.opened > 1)
		s.chat.send('break')
		await until(() => retry)
		s.chat.close()
		return [String(retry >= 500 && retry <= 1000), said(s)[4]]`)
	expect(t, "a break after renewals that failed", got, "true", "1012  true")
}

// A chat goes through many renewals and breaks. What the page was told is taken arrives once and in order, whatever socket
// it went through.
func TestHelperKeepsMessagesInOrder(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	got := try(t, tab, `limit = 30000
		const s = start({ url: '`+s.sockets+`/socket', token: () => '`+unsigned(5)+`' })
		let n = 0
		while (s.opened < 12) {
			for (let i = 0; i < 20; i++) if (!s.chat.send('message ' + n++)) return ['refused']
			await pause(2)
		}
		s.chat.send('last')
		await pause(100)
		s.chat.close()
		return [String(n), ...said(s)]`)
	if len(got) != 1 {
		t.Fatalf("the page: %q", got)
	}
	eventually(t, "the last message has arrived", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.messages, "last")
	})
	sent, _ := strconv.Atoi(got[0])
	arrived := s.take()
	if len(arrived) != sent+1 || sent < 100 {
		t.Errorf("%d messages were sent, and %d arrived", sent+1, len(arrived))
	}
	for n, message := range arrived[:len(arrived)-1] {
		if message != fmt.Sprint("message ", n) {
			t.Fatalf("message %d is %q", n, message)
		}
	}
	eventually(t, "all sockets are closed", func() bool { return s.counted(&s.open) == 0 })
}

// What is sent before a socket is there waits in a queue that has an end. The page knows what was not taken, and data that
// it changes afterwards arrives as it was.
func TestHelperQueueIsBounded(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	got := try(t, tab, `let give
		const s = start({ url: '`+s.sockets+`/socket', token: () => new Promise((done) => (give = done)) })
		const bytes = new Uint8Array([65, 66, 67])
		const taken = [s.chat.send(bytes), s.chat.send(bytes.buffer), s.chat.send(new DataView(bytes.buffer, 1, 1)), s.chat.send(new Blob(['blob'])), s.chat.send(7)]
		bytes.fill(88)
		taken.push(s.chat.send('x'.repeat(2 ** 20)), s.chat.send(new ArrayBuffer(2 ** 20)), s.chat.send(new Blob(['x'.repeat(2 ** 20)])))
		let n = 0
		while (n < 20000 && s.chat.send('')) n++
		give('`+unsigned(600)+`')
		await until(() => s.opened)
		taken.push(s.chat.send('last'))
		await pause(100)
		s.chat.close()
		return [...taken.map(String), String(n > 10000 && n < 10486), String(s.chat.send('after the end'))]`)
	expect(t, "taken", got, "true", "true", "true", "true", "true", "false", "false", "false", "true", "true", "false")
	eventually(t, "the last message has arrived", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Contains(s.messages, "last")
	})
	expect(t, "the server", s.take()[:5], "ABC", "ABC", "B", "blob", "7")
}

// A page closes the chat, or breaks in what it is told, at the worst time.
func TestHelperWhenThePageClosesOrThrows(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	tab := openHelper(t, s)
	token := unsigned(600)
	for name, body := range map[string]string{
		"while the token is fetched": "let give; const s = start({ url, token: () => new Promise((done) => (give = done)) }); s.chat.close(); give(token)",
		"while the socket connects":  "const s = start({ url: url.replace('/socket', '/hang'), token: () => token }); await pause(100); s.chat.close()",
		"while the socket settles":   "const s = start({ url, token: () => token }); await until(() => waits.at(-1) === 300); s.chat.close()",
		"between two tries":          "const s = start({ url, token: () => { throw 0 } }); await until(() => s.closed.length); s.chat.close(); s.closed = []",
		"when it is told of the end": "const s = start({ url: url + '?code=1013', token: () => token, onclose: (s) => s.chat.close() }); await until(() => s.closed.length); s.closed = []",
	} {
		t.Run("closed "+name, func(t *testing.T) {
			got := try(t, tab, "const url = '"+s.sockets+"/socket', token = '"+token+"'; "+body+"; const n = s.tokens; await pause(300); return [String(s.opened), String(s.tokens - n), ...said(s)]")
			expect(t, "opened, tokens, closed", got, "0", "0")
			eventually(t, "no socket is left", func() bool { return s.counted(&s.open) == 0 })
		})
	}
	got := try(t, tab, `addEventListener('unhandledrejection', (event) => event.preventDefault())
		const s = start({ url: '`+s.sockets+`/socket?echo&code=1012&after=two', token: (n) => { if (!n) throw 0; return '`+token+`' },
			onopen(s) { s.chat.send('one'); s.chat.send('two'); throw new Error('of the page') }, onmessage() { throw new Error('of the page') }, onclose() { throw new Error('of the page') } })
		await until(() => s.opened > 2)
		s.chat.close()
		return [...said(s).slice(0, 2), ...s.messages.slice(0, 4)]`)
	expect(t, "a page that throws", got, "0 token_unavailable true", "1012  true", "one", "two", "one", "two")
}

// A gateway with "websocket_rejection close" opens a socket to refuse it. What the page has sent meanwhile is not lost in
// it, and arrives once, when a fresh token is accepted; with a token that no gateway takes it arrives nowhere.
func TestHelperSendsNothingIntoARefusedSocket(t *testing.T) {
	if !alone(t) {
		return
	}
	s := newHelperSite(t)
	up := newUpstream(t)
	secret := newSecret()
	g := start(t, up, widgetMessenger(t, secret, s.url), widgetSite)
	tab := openHelper(t, s)
	now := time.Now().Unix()
	expired, valid := sign(secret, claims{"identity": "mark", "exp": now - 600}), sign(secret, claims{"identity": "mark", "exp": now + 600})
	foreign := sign(newSecret(), claims{"identity": "mark", "exp": now + 600})
	got := try(t, tab, fmt.Sprintf(`settle = 1500
		const s = start({ url: 'ws://%s/echo', token: (n) => (n < 3 ? '%s' : '%s\n') })
		for (const text of ['a', 'b', 'c']) s.chat.send(text)
		await until(() => s.messages.length > 2)
		await pause(200)
		s.chat.close()
		return [...said(s), String(s.opened), ...s.messages]`, g.addr, expired, valid))
	expect(t, "the page", got, "4401 token_expired true", "4401 token_expired true", "4401 token_expired true", "1", "a", "b", "c")

	up.take()
	got = try(t, tab, fmt.Sprintf(`const s = start({ url: 'ws://%s/echo', token: () => '%s' })
		const taken = s.chat.send('d')
		await ended(s)
		await pause(200)
		return [String(taken), String(s.tokens), String(s.opened), ...said(s), String(s.chat.send('e'))]`, g.addr, foreign))
	expect(t, "the page", got, "true", "1", "0", "4401 signature_invalid false", "false")
	up.none(t)
}
