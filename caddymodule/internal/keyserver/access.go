package keyserver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// An Access is how a key server is asked that not everyone may ask. Its headers are secrets: they go to the host of the client's own
// URL and to no other, and no error and no log has them.
type Access struct {
	Roots  *x509.CertPool // the only authorities whose certificates are accepted; nil for those of the system
	Header http.Header
}

// An AccessFunc returns the access for one fetch. It is asked for every fetch, because the files that certificates and headers come
// from change while the gateway runs, as those of Kubernetes do every hour.
type AccessFunc func() (Access, error)

var errAccess = NewFailure(Unreachable, "reading ca or header for the key server failed cannot be read")

// For returns a client for another URL, with the same authorities. It has the headers of c only if the URL is on the same host and
// scheme: a document that one server publishes must not send the secrets for it to another.
func (c *Client) For(url string, public bool) *Client {
	other := NewClient(url, public)
	if c.Access == nil {
		return other
	}
	sameHost := IsSameHost(c.URL, url)
	other.Access = func() (Access, error) {
		access, err := c.Access()
		if !sameHost {
			access.Header = nil
		}
		return access, err
	}
	return other
}

// IsSameHost reports whether two URLs have the same scheme, host and port.
func IsSameHost(a, b string) bool { return Host(a) != "" && Host(a) == Host(b) }

// Host returns the scheme, host and port of a URL, or "" for what is not one.
func Host(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + ascii.Lower(u.Host)
}

// withAccess adds to a request what the key server wants to see, and returns the HTTP client that accepts its certificate. done
// releases that.
func (c *Client) withAccess(r *http.Request, access Access) (client *http.Client, done func()) {
	for name, values := range access.Header {
		r.Header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	transport, ok := c.HTTP.Transport.(*http.Transport)
	if access.Roots == nil || !ok {
		return c.HTTP, func() {}
	}
	transport = transport.Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: access.Roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport, CheckRedirect: c.HTTP.CheckRedirect}, transport.CloseIdleConnections
}

// isConfidential reports whether a fetch tells the server something that not everyone may know, and that it can repeat in any form: most
// servers that refuse a request quote it. Nothing that comes from such a server is shown.
func (c *Client) isConfidential(access Access) bool {
	return len(access.Header) > 0 || strings.Contains(c.URL, "?")
}

// withoutQuotes returns an answer or an error without words of the server.
func withoutQuotes(answer *Answer, err error) (*Answer, error) {
	if err != nil && !isOwn(err) {
		return nil, reasonOf(err)
	}
	if answer != nil {
		answer.ContentType, answer.Confidential = "", true
	}
	return answer, err
}

// isOwn reports whether no server has had a part in the text of an error of Fetch.
func isOwn(err error) bool {
	if errors.Is(err, errStatus) || errors.Is(err, cause.ServerAuthority.Err()) {
		return true
	}
	for _, constant := range []error{io.EOF, io.ErrUnexpectedEOF, http.ErrSchemeMismatch} {
		if errors.Is(err, constant) {
			return true
		}
	}
	_, network := errors.AsType[*net.OpError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	timeout, ok := errors.AsType[net.Error](err)
	return network || certificate || ok && timeout.Timeout()
}
