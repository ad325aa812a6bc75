// Package keyserver fetches what a key server publishes at a URL, over HTTP.
//
// A key server belongs to a third party, and the URL may come from a site owner instead of the gateway's operator. So the
// package bounds what an answer can cost, keeps fetches of site owners' URLs out of the gateway's own network, and says why
// a fetch failed in sentences from a closed list, which do not describe that network.
//
// It does not know what a key is (sigkey), when to fetch again, or what happens while the server is down: both are in authn.JWKS.
// Begin reading with [Client.Fetch].
package keyserver

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

const (
	// DefaultTimeout is for one whole fetch.
	DefaultTimeout = 5 * time.Second

	maxAnswer    = 256 << 10 // bytes; a set of 100 keys of 4096 bits takes a third of it
	maxRedirects = 3
	userAgent    = "caddy-messenger-auth"
)

// IsHost reports whether text is a host name or an address, with or without a port, as it is in a URL.
func IsHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	u, err := url.Parse("https://" + text)
	return err == nil && u.Host == text && u.Hostname() != "" && !strings.Contains(text, "*")
}

// CheckURL returns an error if keys cannot be fetched from this URL safely. It continues a sentence that begins with the URL.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is not a URL; write one such as https://www.example.com/.well-known/jwks.json")
	case strings.HasSuffix(u.Host, ":"):
		return errors.New("has a colon behind the host and no port; write one such as https://www.example.com/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("has a user name in it; keys are public and need none")
	case u.Fragment != "":
		return errors.New("has a fragment (#…), which is never sent")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("is plain http, so that an attacker on the network path could replace the keys: use https (http is for loopback addresses only)")
	}
	return errors.New("is not an https URL")
}

// Shown returns a URL as people may see it, in logs and reports: without the values in its query and its fragment, which may be secrets. Of
// what is in front of an @, where a password can be, also by mistake, it has the scheme alone. Of what is no URL it has nothing in front of the
// last one.
func Shown(text string) string {
	if u, err := url.Parse(text); err != nil || u.Host == "" {
		if at, _ := lastAt(text); at >= 0 {
			text = "…" + text[at:]
		}
	} else if i := strings.IndexAny(text, "?#"); i >= 0 {
		scheme, host, _ := strings.Cut(text[:i], "//")
		if at, _ := lastAt(text[i:]); at >= 0 && !strings.Contains(host, "/") {
			return scheme + "//…" // what looks like the host may be a password
		}
	}
	text, _, hasFragment := strings.Cut(text, "#")
	address, query, hasQuery := strings.Cut(text, "?")
	if at, size := lastAt(address); at >= 0 {
		scheme, _, found := strings.Cut(address, "//")
		if found && len(scheme) < at {
			scheme += "//"
		} else {
			scheme = ""
		}
		address = scheme + "…@" + address[at+size:]
	}
	if hasQuery {
		address += "?" + withoutValues(query)
	}
	if hasFragment {
		address += "#…"
	}
	return address
}

// lastAt returns where the last @ is in a text, or -1, and how many bytes it has: it may be percent-encoded.
func lastAt(text string) (at, size int) {
	plain, encoded := strings.LastIndexByte(text, '@'), strings.LastIndex(text, "%40")
	if encoded > plain {
		return encoded, len("%40")
	}
	return plain, 1
}

// withoutValues returns a query with the names of its parameters.
func withoutValues(query string) string {
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		if name, value, _ := strings.Cut(parameter, "="); strings.Trim(value, "=") != "" {
			parameters[i] = name + "=…"
		} else {
			parameters[i] = "…" // it may be a value without a name
		}
	}
	return strings.Join(parameters, "&")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A Client fetches from one URL. It is safe for concurrent use.
type Client struct {
	URL    string
	HTTP   *http.Client // of NewClient; tests replace its transport
	Access AccessFunc   // nil if the URL alone is enough
}

// NewClient returns a client for a URL that CheckURL accepts. With public it reaches public addresses and port 443 only.
// The client goes through no proxy then: a proxy would resolve the name where the address cannot be checked.
func NewClient(url string, public bool) *Client {
	proxy := http.ProxyFromEnvironment
	if public {
		proxy = nil
	}
	return &Client{URL: url, HTTP: &http.Client{
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            newDialer(public).DialContext,
			TLSHandshakeTimeout:    DefaultTimeout,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // fetches are minutes apart
			DisableCompression:     true, // a small answer must not become a large one here
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: checkRedirect,
	}}
}

// checkRedirect follows redirects only on the server that the URL names. Otherwise a redirect could move trust to another
// host, or from https to http, without anyone changing the configuration.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Scheme != first.Scheme || !ascii.EqualFold(r.URL.Host, first.Host) {
		target := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path} // a query may have a secret in it
		return fmt.Errorf("%w (it redirects to %.200q)", errRedirect, target.String())
	}
	if len(via) > maxRedirects {
		return errRedirects
	}
	return nil
}

// Close closes the idle connections of c.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// An Answer is what a key server sent.
type Answer struct {
	Body        []byte        // nil with NotModified
	NotModified bool          // the content that the given validators belong to is still current
	ContentType string        // as the server states it
	Lifetime    time.Duration // as the server states it; -1 if it does not
	Validators  Validators    // for the next fetch

	Confidential bool // the request had secrets, which the server can repeat: errors do not quote what it says
}

// Validators are what a server needs to answer "not modified" (RFC 9110 section 13.1). The zero value asks for the content
// in any case.
type Validators struct{ etag, lastModified string }

// Fetch asks the key server once; ctx bounds the time. known are the validators of the content that the caller has. Nothing
// that the gateway's clients send is part of the request. [Reason] says in public words why it failed.
func (c *Client) Fetch(ctx context.Context, known Validators) (*Answer, error) {
	var access Access
	if c.Access != nil {
		var err error
		if access, err = c.Access(); err != nil {
			return nil, fmt.Errorf("%w: %w", errAccess, err)
		}
	}
	answer, err := c.fetch(ctx, known, access)
	if c.isConfidential(access) {
		return withoutQuotes(answer, err)
	}
	return answer, err
}

func (c *Client) fetch(ctx context.Context, known Validators, access Access) (*Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json, */*;q=0.1") // some servers label keys as text, and answer 406 otherwise
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", userAgent)
	if known.etag != "" {
		r.Header.Set("If-None-Match", known.etag)
	}
	if known.lastModified != "" {
		r.Header.Set("If-Modified-Since", known.lastModified)
	}
	client, done := c.withAccess(r, access)
	defer done()
	resp, err := client.Do(r)
	if err != nil {
		return nil, classify(err)
	}
	defer resp.Body.Close()
	answer := &Answer{
		ContentType: resp.Header.Get("Content-Type"),
		Lifetime:    lifetime(resp.Header, time.Now()),
		Validators:  Validators{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")},
	}
	// A server that says "not modified" without having been asked leaves us with no content: that is an error status.
	if resp.StatusCode == http.StatusNotModified && known != (Validators{}) {
		answer.NotModified = true
		return answer, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %d", errStatus, resp.StatusCode)
	}
	if answer.Body, err = readBody(resp); err != nil {
		return nil, err
	}
	return answer, nil
}

// readBody reads the content of an answer up to the limit. Some servers compress although they were asked not to; the limit is for
// both forms, so that a small answer does not become a large one here.
func readBody(resp *http.Response) ([]byte, error) {
	content := http.MaxBytesReader(nil, resp.Body, maxAnswer) // which fails behind the limit: what was cut off must not look whole
	switch encoding := ascii.Lower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		uncompressed, err := gzip.NewReader(content)
		if err != nil {
			return nil, compressed(err)
		}
		content = http.MaxBytesReader(nil, uncompressed, maxAnswer)
	default:
		return nil, fmt.Errorf("%w (it is %.40q)", errEncoding, encoding)
	}
	body, err := io.ReadAll(content)
	if err != nil {
		return nil, compressed(err)
	}
	return bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), nil // a byte-order mark
}

// compressed classifies an error of reading content that may be compressed.
func compressed(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return errTooLarge
	}
	if damaged := flate.CorruptInputError(0); errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &damaged) {
		return fmt.Errorf("%w: %w", errEncoding, err)
	}
	return classify(err)
}

// newDialer returns the dialer of a client.
func newDialer(public bool) *net.Dialer {
	dialer := &net.Dialer{Timeout: DefaultTimeout}
	if public {
		dialer.Control = dialPublic
	}
	return dialer
}

// dialPublic refuses addresses that are not public. The dialer calls it with the address that it is about to connect to, after
// the name was resolved: a check of the URL, or of an earlier look-up, would be undone by a name server that answers
// differently the next time (server-side request forgery by DNS rebinding).
func dialPublic(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || target.Port() != 443 || !isPublic(target.Addr()) {
		return errForbiddenAddress
	}
	return nil
}

// assigned is the part of IPv6 that the internet uses. Most ranges that embed an IPv4 address, or lead nowhere, are outside
// of it.
var assigned = netip.MustParsePrefix("2000::/3")

// notPublic are the ranges of the IANA special-purpose address registries that netip does not know by name, and those
// within assigned that embed an IPv4 address in an IPv6 one.
var notPublic = func() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

func isPublic(ip netip.Addr) bool {
	ip = ip.WithZone("").Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return false
	}
	if ip.Is6() && !assigned.Contains(ip) {
		return false
	}
	for _, prefix := range notPublic {
		if prefix.Contains(ip) {
			return false
		}
	}
	return true
}
