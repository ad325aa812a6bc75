package integration

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// startTLS runs Caddy with one site over TLS, which speaks every version of HTTP.
func startTLS(t testing.TB, up *upstream, messengers, site string) *gateway {
	t.Helper()
	g := newGateway(t, up, "https://")
	g.load(messengers, site)
	return g
}

// siteCertificate returns the directive with the certificate of the site. Where Caddy makes one itself, its TLS app races
// with its own events while it starts.
func siteCertificate(t testing.TB) string {
	t.Helper()
	key := rsaKey(0)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("tls %s %s\n",
		write(t, "site.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		write(t, "site.key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// A version is a client for one version of HTTP.
type version struct {
	name   string
	client *http.Client
}

// versions returns a client for each version of HTTP, once the site has its certificate.
func (g *gateway) versions() []version {
	g.t.Helper()
	insecure := func(protocol string) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
	}
	h1 := &http.Transport{TLSClientConfig: insecure("http/1.1")}
	h2 := &http.Transport{TLSClientConfig: insecure("h2"), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: insecure("h3")}
	g.t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	eventually(g.t, "the site has its certificate", func() bool {
		conn, err := tls.Dial("tcp", g.addr, insecure("http/1.1"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return []version{{"HTTP/1.1", &http.Client{Transport: h1}}, {"HTTP/2", &http.Client{Transport: h2}}, {"HTTP/3", &http.Client{Transport: h3}}}
}
