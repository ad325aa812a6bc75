package integration

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// strict is a messenger without tolerance for clocks, so that tokens end when they say.
func strict(t testing.TB, more string) (messengers, secret string) {
	secret = newSecret()
	key := write(t, "secret", []byte(secret))
	return "messenger support {\n identity_key identity\n shared_token {file." + key + "}\n clock_skew 0s\n" + more + "\n}", secret
}

// startStrict runs a gateway with such a messenger in front of a chat.
func startStrict(t testing.TB, more, site string) (g *gateway, up *chat, secret string) {
	t.Helper()
	messengers, secret := strict(t, more)
	up = newChat(t)
	return start(t, up.upstream, messengers, site), up, secret
}

// lasting returns a token that expires so long from now, or a little later on a busy machine, where a request may take longer than
// that to be sent, and the instant at which it does.
func lasting(secret, identity string, life time.Duration) (header string, end time.Time) {
	return lastingExactly(secret, identity, life+busy())
}

// lastingExactly returns a token that expires so long from now.
func lastingExactly(secret, identity string, life time.Duration) (header string, end time.Time) {
	end = time.UnixMilli(time.Now().Add(life).UnixMilli())
	return bearer(sign(secret, claims{"identity": identity, "iat": time.Now().Unix(), "exp": float64(end.UnixMilli()) / 1000})), end
}

// busy returns how much longer a request may take than on a quiet machine: 300 ms for each process that waits for a processor,
// and five seconds at most.
func busy() time.Duration {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0 // not Linux
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 0
	}
	return min(time.Duration(load/float64(runtime.NumCPU())*float64(300*time.Millisecond)), 5*time.Second)
}

// overHTTP2 runs the calling test again in a process of its own, in which Go takes extended CONNECT over HTTP/2: it is
// off by default, and the environment is read only at the start of a process. It reports true in that process. In the
// one that calls, wait reports what came of it; until then both run.
func overHTTP2(t *testing.T) (child bool, wait func()) {
	t.Helper()
	if strings.Contains(os.Getenv("GODEBUG"), "http2xconnect=1") {
		return true, func() {}
	}
	report := runAgain(t, "GODEBUG=http2xconnect=1", aloneVariable+"=1")
	return false, func() { t.Run("HTTP/2, in a process of its own", report) }
}

// eachProtocol runs test for each version of HTTP, with a running gateway for each of the sites.
func eachProtocol(t *testing.T, sites map[string]string, messengers string, test func(t *testing.T, p protocol, g *gateway, up *chat)) {
	child, wait := overHTTP2(t)
	defer wait()
	for _, p := range protocols {
		if child != (p.name == "HTTP/2") {
			continue
		}
		for name, site := range sites {
			t.Run(p.name+", "+name, func(t *testing.T) {
				up := newChat(t)
				scheme := "http://"
				if p.tls {
					scheme = "https://"
				}
				g := newGateway(t, up.upstream, scheme)
				g.unlogged = strings.Contains(name, "without access log")
				g.load(messengers, site)
				if p.tls {
					g.waitForTLS()
				}
				test(t, p, g, up)
			})
		}
	}
}
