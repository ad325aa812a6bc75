package keyserver

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// An Access is how a key server is asked that not everyone may ask. Its headers are secrets: they go to the host of the client's own
// URL and to no other, and no error and no log has them.
type Access struct {
	Roots  *x509.CertPool // the only authorities whose certificates are accepted; nil for those of the system
	Header http.Header

	query []string // the values in the query of the URL, which may be secrets as well
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

// valuesOf returns the values in the query of a URL, as they are written and as they are meant.
func valuesOf(address string) (values []string) {
	_, query, _ := strings.Cut(address, "?")
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, valued := strings.Cut(parameter, "=")
		if !valued { // the name may be the secret, as Shown takes it
			value = name
		}
		values = append(values, value)
		if meant, err := url.QueryUnescape(value); err == nil {
			values = append(values, meant)
		}
	}
	return values
}

// says reports whether a text that comes from the server repeats a secret that was sent to it.
func (a Access) says(text string) bool {
	text = ascii.Lower(text)
	if slices.ContainsFunc(a.query, func(value string) bool { return len(value) >= minSecret && strings.Contains(text, ascii.Lower(value)) }) {
		return true
	}
	for _, values := range a.Header {
		for _, value := range values {
			_, credentials, _ := strings.Cut(value, " ") // without its scheme
			for _, secret := range []string{value, credentials} {
				if len(secret) >= minSecret && strings.Contains(text, ascii.Lower(secret)) {
					return true
				}
			}
		}
	}
	return false
}

// minSecret is the length from which a value is searched for: shorter ones are parts of other words.
const minSecret = 6

// withoutSecrets returns an error or an answer that does not repeat a secret: some servers quote what they were sent.
func (a Access) withoutSecrets(answer *Answer, err error) (*Answer, error) {
	if err != nil && a.says(err.Error()) {
		return nil, reasonOf(err)
	}
	if answer != nil && a.says(answer.ContentType) {
		answer.ContentType = ""
	}
	return answer, err
}
