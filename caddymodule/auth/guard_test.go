package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// guardAs is guard for a request of a messenger, in a mode.
func (h *Handler) guardAs(m *registry.Messenger, w http.ResponseWriter, r *http.Request, mode config.Mode, o *upstream.Outcome, next caddyhttp.Handler) error {
	return h.guard(w, r, decision{messenger: m, mode: mode, outcome: o, next: next})
}

// guardedMessenger returns a messenger with that max_session, and a contact of it whose token expires after life; 0 means never.
func guardedMessenger(t testing.TB, limit, life time.Duration) (*registry.Messenger, *authn.Contact) {
	t.Helper()
	key, err := sigkey.ParseShared([]byte(strings.Repeat("k", 32)), "", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authn.NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	m := &registry.Messenger{Messenger: new(config.Messenger), Name: t.Name(), Session: limit}
	m.Verifier.Store(authn.NewVerifier(m.Policy, keys))
	c := &authn.Contact{Identity: "mark", SignedBy: key}
	if life != 0 {
		c.Expires = time.Now().Add(life)
		c.Until = c.Expires
	}
	return m, c
}

func get(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	return r
}

// A connection without an expiry and without a limit is guarded too, because its token can be revoked. Only a response that cannot
// be a stream passes without a guard, and is made private.
func TestOnlyResponsesThatCannotBeStreamsAreUnguarded(t *testing.T) {
	for name, test := range map[string]struct {
		limit, life time.Duration
		mode        config.Mode
		request     *http.Request
		guarded     bool
	}{
		"no expiry, no limit":            {0, 0, config.ModeRequired, get("Accept: */*"), true},
		"report closes no connection":    {time.Hour, time.Hour, config.ModeReport, get("Upgrade: websocket"), false},
		"a proxy may upgrade a HEAD":     {time.Hour, time.Hour, config.ModeRequired, httptest.NewRequest(http.MethodHead, "/", nil), true},
		"an expiry":                      {0, time.Hour, config.ModeRequired, get(), true},
		"a limit":                        {time.Hour, 0, config.ModeOptional, get(), true},
		"a WebSocket can be revoked":     {0, 0, config.ModeRequired, get("Upgrade: websocket"), true},
		"an event stream can be revoked": {0, 0, config.ModeRequired, get("Accept: text/event-stream"), true},
	} {
		t.Run(name, func(t *testing.T) {
			m, c := guardedMessenger(t, test.limit, test.life)
			w := httptest.NewRecorder()
			o := &upstream.Outcome{Contact: c, Handshake: len(test.request.Header["Upgrade"]) > 0}
			err := new(Handler).guardAs(m, w, test.request, test.mode, o, caddyhttp.HandlerFunc(func(got http.ResponseWriter, r *http.Request) error {
				if _, guarded := got.(*guardedWriter); guarded != test.guarded || !guarded && r != test.request {
					t.Errorf("guarded: %t, want %t", guarded, test.guarded)
				}
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
			if got := w.Header().Get("Cache-Control"); got != "private" {
				t.Errorf("Cache-Control is %q, want private", got)
			}
			if stats, open := registry.Connections.Stats()[m.Name]; open {
				t.Errorf("left are %+v", stats)
			}
		})
	}
}

// Only the response can tell that it is an event stream, so every response is looked at; it costs one small writer.
func TestGuardCostsOneWriter(t *testing.T) {
	m, c := guardedMessenger(t, 12*time.Hour, time.Hour)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusNoContent); return nil })
	h, o := new(Handler), &upstream.Outcome{Contact: c}
	for version := 1; version <= 3; version++ {
		w, r := httptest.NewRecorder(), get("Accept: */*")
		r.ProtoMajor = version
		if n := testing.AllocsPerRun(100, func() {
			o.Guarded = false
			_ = h.guardAs(m, w, r, config.ModeRequired, o, next)
		}); n > 1 {
			t.Errorf("over HTTP/%d: %v allocations", version, n)
		}
	}
}

func TestDeadline(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at := func(minutes int) time.Time { return now.Add(time.Duration(minutes) * time.Minute) }
	for name, test := range map[string]struct {
		limit          time.Duration
		expires, until time.Time
		want           session.Deadline
	}{
		"nothing":                                {0, time.Time{}, time.Time{}, session.Deadline{}},
		"the token, spread over the skew":        {0, at(10), at(11), session.Deadline{From: at(10), To: at(11), Ending: session.Expired}},
		"the key before the token":               {0, at(10), at(5), session.Deadline{From: at(5), To: at(5), Ending: session.Revoked}},
		"the key, and the token does not expire": {0, time.Time{}, at(5), session.Deadline{From: at(5), To: at(5), Ending: session.Revoked}},
		"the key within the skew":                {0, at(10), at(10), session.Deadline{From: at(10), To: at(10), Ending: session.Expired}},
		"the limit alone":                        {time.Hour, time.Time{}, time.Time{}, session.Deadline{From: at(60), To: at(60), Ending: session.Limit}},
		"the limit before the token":             {time.Hour, at(120), at(121), session.Deadline{From: at(60), To: at(60), Ending: session.Limit}},
		"the token before the limit":             {time.Hour, at(10), at(11), session.Deadline{From: at(10), To: at(11), Ending: session.Expired}},
		"the limit within the skew":              {time.Hour, at(59), at(61), session.Deadline{From: at(59), To: at(60), Ending: session.Expired}},
		"a token that lives within the skew":     {0, at(-1), at(1), session.Deadline{From: at(-1), To: at(1), Ending: session.Expired}},
		"the key before the limit, no expiry":    {time.Hour, time.Time{}, at(5), session.Deadline{From: at(5), To: at(5), Ending: session.Revoked}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &registry.Messenger{Session: test.limit}
			if got := deadline(m, &authn.Contact{Expires: test.expires, Until: test.until}, now); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// A proxy that was cut short panics with http.ErrAbortHandler. It counts as caused by us only if it was, and no other
// panic ever is.
func TestOnlyOurOwnAbortIsRecovered(t *testing.T) {
	other := errors.New("something else")
	for name, test := range map[string]struct {
		ended     bool
		kind      string
		panics    any
		returns   error
		recovered bool
	}{
		"our end of an event stream":           {true, eventStream, http.ErrAbortHandler, nil, true},
		"an error because of our end":          {true, eventStream, nil, other, true},
		"another panic after our end":          {true, eventStream, other, nil, false},
		"a proxy that aborts an event stream":  {false, eventStream, http.ErrAbortHandler, nil, false},
		"an error that is not ours":            {false, eventStream, nil, other, false},
		"an abort of a download after our end": {true, "text/plain", http.ErrAbortHandler, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, c := guardedMessenger(t, time.Hour, time.Hour)
			defer func() {
				if got := recover(); (got == nil) != (test.recovered || test.panics == nil) || got != nil && got != test.panics {
					t.Errorf("it panics with %v", got)
				}
			}()
			err := new(Handler).guardAs(m, httptest.NewRecorder(), get("Accept: text/event-stream"), config.ModeRequired, &upstream.Outcome{Contact: c}, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Content-Type", test.kind)
				w.WriteHeader(http.StatusOK)
				if g := w.(*guardedWriter); test.ended {
					g.connection.End(session.Revoked)
				}
				if test.panics != nil {
					panic(test.panics)
				}
				return test.returns
			}))
			if test.panics == nil && (err == nil) != test.recovered {
				t.Errorf("it returns %v", err)
			}
		})
	}
}

// What was revoked while a request was on its way ends its connection; a key that was only replaced does not.
func TestKeyRevokedBeforeTheConnectionWasTracked(t *testing.T) {
	m, c := guardedMessenger(t, time.Hour, time.Hour)
	another, err := sigkey.ParseShared([]byte(strings.Repeat("x", 32)), "", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authn.NewKeySet(another)
	if err != nil {
		t.Fatal(err)
	}
	m.Verifier.Store(authn.NewVerifier(m.Policy, keys))
	o := &upstream.Outcome{Contact: c, Origin: new(session.Origin)}
	for closings, want := range []string{"data: 1\n\n", "event: auth\ndata: token_revoked\n\n"} {
		m.SetOrigin(session.Origin{Closings: uint64(closings)})
		w := httptest.NewRecorder()
		_ = new(Handler).guardAs(m, w, get(), config.ModeRequired, o, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "Text/Event-Stream;charset=utf-8")
			_, err := w.Write([]byte("data: 1\n\n"))
			return err
		}))
		if got := w.Body.String(); got != want {
			t.Errorf("with %d closings, the client got %q", closings, got)
		}
	}
}

// BenchmarkGuard is what the guard adds to a plain request.
func BenchmarkGuard(b *testing.B) {
	for name, limit := range map[string]time.Duration{"no limit": 0, "max_session": time.Hour} {
		b.Run(name, func(b *testing.B) {
			m, c := guardedMessenger(b, limit, 0)
			h, w, r, o := new(Handler), httptest.NewRecorder(), get("Accept: */*"), &upstream.Outcome{Contact: c}
			next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusNoContent); return nil })
			b.ReportAllocs()
			for b.Loop() {
				o.Guarded = false
				_ = h.guardAs(m, w, r, config.ModeRequired, o, next)
			}
		})
	}
}

// BenchmarkGuardedWebSocket is what an idle WebSocket costs in memory: heap-B/conn, everything of ours included, also what
// every request has. What it costs without us, such as its request, is not counted.
func BenchmarkGuardedWebSocket(b *testing.B) {
	m, contact := guardedMessenger(b, time.Hour, time.Hour)
	request, w := get("Upgrade: websocket"), httptest.NewRecorder()
	type connection struct {
		outcome upstream.Outcome
		contact authn.Contact
		writer  guardedWriter
	}
	open := make([]*connection, b.N)
	before := heap()
	for i := range open {
		o := &connection{contact: *contact}
		o.contact.Identity = fmt.Sprintf("contact-%032d", i)
		o.outcome = upstream.Outcome{Messenger: m.Name, Contact: &o.contact, Guarded: true}
		o.writer = guardedWriter{handler: new(Handler), messenger: m, outcome: &o.outcome, handshake: true, request: request}
		o.writer.ResponseWriter = w
		o.writer.ended.Context = request.Context()
		o.writer.ended.Done() // a proxy waits for its end
		o.writer.track()
		open[i] = o
	}
	b.ReportMetric(float64(heap()-before)/float64(b.N), "heap-B/conn")
	for _, o := range open {
		o.writer.session.Remove()
		o.writer.connection.Finish()
	}
}

func heap() uint64 {
	var mem runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&mem)
	return mem.HeapAlloc
}

// An error route may answer with an event stream of its own, behind a guard of its own.
func TestErrorRouteHasItsOwnGuard(t *testing.T) {
	m, c := guardedMessenger(t, time.Hour, time.Hour)
	o := &upstream.Outcome{Contact: c}
	for _, r := range []*http.Request{get(), get("Upgrade: websocket"), get("Accept: text/event-stream")} {
		o.Handshake = len(r.Header["Upgrade"]) > 0
		err := new(Handler).guardAs(m, httptest.NewRecorder(), r, config.ModeRequired, o, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
			return fmt.Errorf("the backend is away")
		}))
		if err == nil || o.Guarded || r.Context().Err() != nil {
			t.Errorf("%v: the outcome is guarded still: %t, the request's context: %v", err, o.Guarded, r.Context().Err())
		}
	}
}
