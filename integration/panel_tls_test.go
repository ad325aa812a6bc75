package integration

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
)

// clientCert returns a certificate for a name, signed by parent, or by itself if there is none.
func clientCert(t *testing.T, name string, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key := rsaKey(0)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: parent == nil, DNSNames: []string{strings.ReplaceAll(name, " ", "-")},
	}
	issuer := template
	if parent != nil {
		issuer = parent.Leaf
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// An operator has a client certificate. Where Caddy only asks for one and does not verify it, any client can make one with
// any name, the operator's as well as that of a messenger's owner.
func TestClientCertificateIsAcceptedOnlyIfVerified(t *testing.T) {
	ca := clientCert(t, "our CA", nil)
	trusted := write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]}))
	verify := "tls {\nclient_auth {\nmode verify_if_given\ntrust_pool file " + trusted + "\n}\n}\n"
	request := "tls {\nclient_auth {\nmode request\n}\n}\n"
	byCert := "messenger_panel {\nuser {http.request.tls.client.subject}\n}"
	for _, test := range []struct {
		name, site string
		cert       *tls.Certificate
		status     int
	}{
		{"verified", verify + byCert, clientCert(t, "alice", ca), 200},
		{"none given", verify + byCert, nil, 403},
		{"not verified", request + byCert, clientCert(t, "alice", ca), 403},
		{"made by the visitor, and not verified", request + byCert, clientCert(t, "alice", nil), 403},
		{"verified, for a messenger", verify + "basic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel {http.request.tls.client.san.dns_names.0}", clientCert(t, "support", ca), 200},
		{"not verified, for a messenger", request + "basic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel {http.request.tls.client.san.dns_names.0}", clientCert(t, "support", nil), 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGateway(t, nil, "https://")
			g.url = "https://localhost:" + portOf(g.addr) // Caddy asks for certificates by the name of the site
			g.load("messenger support {\nidentity_key identity\nshared_token\n}", test.site)
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
			if test.cert != nil {
				config.Certificates = []tls.Certificate{*test.cert}
			}
			eventually(t, "the site has its certificate", func() bool {
				conn, err := tls.Dial("tcp", g.addr, config)
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
			headers := []string{}
			if strings.Contains(test.site, "basic_auth") {
				r, _ := http.NewRequest(http.MethodGet, g.url, nil)
				r.SetBasicAuth("operator", panelPassword)
				headers = append(headers, "Authorization: "+r.Header.Get("Authorization"))
			}
			a := g.send(client, http.MethodGet, "/", headers...)
			a.says(t, test.status)
			if test.status == 200 {
				a.says(t, 200, map[bool]string{true: "Signed in as operator", false: "Signed in as CN=alice"}[len(headers) > 0])
			}
		})
	}
}
