package keyserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A site owner types a URL, and a name server says where it leads. It must not lead into the gateway's own network:
// server-side request forgery, as in the theft of Capital One's data in 2019 by way of 169.254.169.254.
func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1:443", "127.255.255.254:443", "0.0.0.0:443", "0.1.2.3:443", "10.0.0.1:443", "172.16.0.1:443", "172.31.255.255:443", "192.168.1.1:443",
		"100.64.0.1:443", "100.127.255.255:443", "169.254.169.254:443", "169.254.0.1:443", "192.0.0.192:443", "192.0.2.1:443", "192.88.99.1:443",
		"198.18.0.1:443", "198.19.255.255:443", "198.51.100.1:443", "203.0.113.1:443", "224.0.0.1:443", "239.255.255.255:443", "240.0.0.1:443", "255.255.255.255:443",
		"[::]:443", "[::1]:443", "[::127.0.0.1]:443", "[::8.8.8.8]:443", "[::ffff:127.0.0.1]:443", "[::ffff:10.0.0.1]:443", "[::ffff:169.254.169.254]:443",
		"[::ffff:0:127.0.0.1]:443", "[64:ff9b::7f00:1]:443", "[64:ff9b::808:808]:443", "[64:ff9b:1::a00:1]:443", "[2002:7f00:1::]:443", "[2002:808:808::1]:443",
		"[2001::1]:443", "[2001:0:7f00:1::]:443", "[2001:db8::1]:443", "[3fff::1]:443", "[5f00::1]:443", "[100::1]:443", "[4000::1]:443",
		"[fe80::1]:443", "[fe80::1%eth0]:443", "[fec0::1]:443", "[fc00::1]:443", "[fd00:ec2::254]:443", "[ff02::1]:443",
		"8.8.8.8:80", "8.8.8.8:22", "8.8.8.8:8443", "8.8.8.8:0", "[2606:4700::1111]:6379",
		"localhost:443", "8.8.8.8", "", "/run/docker.sock",
	} {
		if err := dialPublic("tcp", address, nil); !errors.Is(err, errForbiddenAddress) {
			t.Errorf("%q: got %v", address, err)
		}
	}
	for _, address := range []string{"8.8.8.8:443", "1.1.1.1:443", "172.15.0.1:443", "172.32.0.1:443", "100.63.255.255:443", "100.128.0.1:443", "[2606:4700:4700::1111]:443", "[2a00:1450::1]:443", "[::ffff:8.8.8.8]:443"} {
		if err := dialPublic("tcp", address, nil); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// fakeDNS is a resolver that answers every question for an IPv4 address with ip.
func fakeDNS(t *testing.T, ip netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response = true
			m.Additionals = nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: ip.As4()},
				}}
			}
			if packed, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// An attacker's name resolves to an address of the gateway's network (DNS rebinding): the address is checked when it is
// dialled, and not when the URL is typed.
func TestNameWithAnInternalAddressIsNotDialled(t *testing.T) {
	for _, inside := range []string{"127.0.0.1", "169.254.169.254", "10.1.2.3"} {
		dialer := newDialer(true)
		dialer.Resolver = fakeDNS(t, netip.MustParseAddr(inside))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		conn, err := dialer.DialContext(ctx, "tcp", "keys.evil.example.:443")
		cancel()
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, errForbiddenAddress) {
			t.Errorf("%s: got %v", inside, err)
		}
	}
	if newDialer(false).Control != nil {
		t.Error("the operator's own URLs are restricted too")
	}
}

// What a site owner sees of a failed fetch does not describe the network: a closed port, one that answers with something
// else and one that does not answer look the same.
func TestReasonDoesNotDescribeTheNetwork(t *testing.T) {
	if NewClient("https://keys.example/", true).HTTP.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy would resolve the name where the address cannot be checked")
	}
	for _, url := range []string{"https://localhost/jwks.json", "https://127.0.0.1/", "https://[::1]/", "https://localhost:1/", "http://127.0.0.1:8080/"} {
		_, err := NewClient(url, true).Fetch(t.Context(), Validators{})
		if !errors.Is(err, errForbiddenAddress) {
			t.Errorf("%s: got %v", url, err)
		}
	}
	for _, cause := range []error{
		errors.New("dial tcp 10.0.0.1:443: connect: connection refused"), classify(&net.OpError{Op: "dial", Err: errors.New("no route to host")}),
		classify(&net.DNSError{Err: "no such host", Name: "internal.example"}),
	} {
		if got := Reason(cause); !errors.Is(got, errUnreachable) || got.Error() != errUnreachable.Error() {
			t.Errorf("%v is shown as %v", cause, got)
		}
	}
	if Reason(nil) != nil {
		t.Error("success is shown as an error")
	}
}
