package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

const (
	maxKeySetSize    = 256 << 10 // bytes
	maxKeySetEntries = 100
	maxRedirects     = 3
	userAgent        = "caddy-messenger-auth"
)

// CheckJWKSURL returns an error if keys cannot be fetched from this URL safely.
func CheckJWKSURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("is not a URL; write one such as https://www.example.com/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("has a user name in it; keys are public and need none")
	case u.Fragment != "":
		return errors.New("has a fragment (#…), which is never sent")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("is plain http; whoever is on the way could put keys of their own in: use https (http is for loopback addresses only)")
	}
	return errors.New("is not an https URL")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newFetchClient returns a client that follows redirects only on the server it was sent to, and keeps no connection
// between two fetches that are minutes apart. With public it reaches public addresses only, and goes through no proxy,
// which would resolve the name without a check of the address.
func newFetchClient(public bool) *http.Client {
	proxy := http.ProxyFromEnvironment
	if public {
		proxy = nil
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            newDialer(public).DialContext,
			TLSHandshakeTimeout:    DefaultFetchTimeout,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true,
			DisableCompression:     true, // a small answer must not become a large one here
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			first := via[0].URL
			if r.URL.Scheme != first.Scheme || !ascii.EqualFold(r.URL.Host, first.Host) {
				return errRedirect
			}
			if len(via) > maxRedirects {
				return errRedirects
			}
			return nil
		},
	}
}

// The reasons for which a fetch can fail. They are a closed list, because some of them are shown to people who may not
// explore a network with the gateway's help; the cause behind them is for the operator's log.
var (
	errUnreachable = errors.New("the key server cannot be reached")
	errTimeout     = errors.New("the key server did not answer completely in time")
	errRedirect    = errors.New("the key server redirects to another host or scheme; name the final URL")
	errRedirects   = errors.New("the key server redirects too often")
	errStatus      = errors.New("the key server answers with a status other than 200")
	errEncoding    = errors.New("the key server answers with a content encoding that was not asked for")
	errTooLarge    = errors.New("the answer of the key server is larger than 256 KiB")
	errNoKeySet    = errors.New("the answer of the key server is no JWK Set")
	errTooMany     = errors.New("the key set has more than 100 entries")
	errNoKey       = errors.New("the key set has no key that can be used")
)

// closed returns the reason of the list alone, for those who may see no more.
func closed(err error) error {
	if err == nil {
		return nil
	}
	for _, reason := range []error{errForbiddenAddress, errTimeout, errRedirect, errRedirects, errStatus, errEncoding, errTooLarge, errNoKeySet, errTooMany, errNoKey} {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return errUnreachable
}

// FetchReason is closed as a text, "" for nil: people who may not explore the gateway's network are told no more, whoever
// configured the URL.
func FetchReason(err error) string {
	if err = closed(err); err == nil {
		return ""
	}
	return err.Error()
}

// The outcomes of a fetch, for counting them.
const (
	FetchChanged     = "changed"     // another set than before
	FetchUnchanged   = "unchanged"   // the set that was there is still right
	FetchUnreachable = "unreachable" // no answer, or none in time
	FetchRefused     = "refused"     // an answer that is not a key set: an error status, a redirect elsewhere, an address that is not allowed
	FetchUnusable    = "unusable"    // an answer that cannot be used as a set
)

// FetchOutcomes are all of them.
var FetchOutcomes = []string{FetchChanged, FetchUnchanged, FetchUnreachable, FetchRefused, FetchUnusable}

// Outcome says in one word of a closed list how the fetch ended.
func (r FetchReport) Outcome() string {
	switch reason := closed(r.Err); reason {
	case nil:
		if r.Replaced {
			return FetchChanged
		}
		return FetchUnchanged
	case errUnreachable, errTimeout:
		return FetchUnreachable
	case errRedirect, errRedirects, errStatus, errForbiddenAddress:
		return FetchRefused
	}
	return FetchUnusable
}

// validators are what a server needs to say "not modified" (RFC 9110 section 13.1).
type validators struct{ etag, lastModified string }

// fetchedKeys are the answer of a key server.
type fetchedKeys struct {
	set         *KeySet
	omitted     []Omitted
	lifetime    time.Duration // as the server named it, -1 if it did not
	validators  validators
	notModified bool // the set that has the validators sent along is still right
	raw         []byte
}

// Omitted is an entry of a key set that is not used.
type Omitted struct {
	Index  int    // its place in the set, from 0
	KeyID  string // its kid, if it has one
	Reason string
}

// fetchKeys asks url for a key set. Nothing of any request goes along. With an error the answer has at most the entries
// that were left out.
func fetchKeys(ctx context.Context, client *http.Client, url string, known validators, small bool) (*fetchedKeys, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", userAgent)
	if known.etag != "" {
		r.Header.Set("If-None-Match", known.etag)
	}
	if known.lastModified != "" {
		r.Header.Set("If-Modified-Since", known.lastModified)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fetchError(err)
	}
	defer resp.Body.Close()
	answer := &fetchedKeys{
		lifetime:   lifetime(resp.Header, time.Now()),
		validators: validators{resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")},
	}
	if resp.StatusCode == http.StatusNotModified && known != (validators{}) {
		answer.notModified = true
		return answer, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %d", errStatus, resp.StatusCode)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !ascii.EqualFold(encoding, "identity") {
		return nil, errEncoding
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetSize+1))
	if err != nil {
		return nil, fetchError(err)
	}
	if len(body) > maxKeySetSize {
		return nil, errTooLarge
	}
	answer.raw = body
	answer.set, answer.omitted, err = parseKeySet(body, small)
	return answer, err
}

// fetchError puts the reason of the closed list in front of err, and leaves out the URL that net/http adds.
func fetchError(err error) error {
	if urlError, ok := errors.AsType[*url.Error](err); ok {
		err = urlError.Err
	}
	switch {
	case errors.Is(err, errRedirect):
		return errRedirect
	case errors.Is(err, errRedirects):
		return errRedirects
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case errors.Is(err, errForbiddenAddress):
		return errForbiddenAddress
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}

// lifetime returns how long an answer may be used (RFC 9111 section 4.2.1), or -1 if it does not say.
func lifetime(h http.Header, now time.Time) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(ascii.Lower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			age, _ := strconv.ParseUint(h.Get("Age"), 10, 31)
			return time.Duration(seconds-min(age, seconds)) * time.Second
		}
	}
	if expires := h.Get("Expires"); expires != "" {
		date, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			date = now
		}
		end, err := http.ParseTime(expires)
		if err != nil {
			return 0 // "0" and other non-dates mean: expired
		}
		return max(end.Sub(date), 0)
	}
	return -1
}

// parseKeySet reads a JWK Set. An entry that cannot be used is left out with its reason, because key servers publish
// keys for other purposes beside ours; a set without any usable key is an error, so that it never replaces one that has.
// With small, keys are left out that cost more than usual ones; see [Key.CheckSmall].
func parseKeySet(body []byte, small bool) (*KeySet, []Omitted, error) {
	var list []json.RawMessage
	found := false
	if err := strictjson.Lenient(body, func(name, value []byte) {
		if string(name) == "keys" {
			found = value[0] == '[' && json.Unmarshal(value, &list) == nil
		}
	}); err != nil || !found {
		return nil, nil, errNoKeySet
	}
	if len(list) > maxKeySetEntries {
		return nil, nil, errTooMany
	}
	var keys []*Key
	var omitted []Omitted
	for i, entry := range list {
		k, err := parseJWK(entry)
		if err == nil && small {
			err = k.CheckSmall()
		}
		if err != nil {
			omitted = append(omitted, Omitted{Index: i, KeyID: entryKID(entry), Reason: err.Error()})
			continue
		}
		keys = append(keys, k)
	}
	keys, omitted = dropAmbiguous(list, keys, omitted)
	if len(keys) == 0 {
		return nil, omitted, errNoKey
	}
	return newKeySet(keys), omitted, nil
}

// dropAmbiguous leaves out keys that differ and share one kid: it is undefined which of them the kid means. A key that is
// listed twice is one key.
func dropAmbiguous(list []json.RawMessage, keys []*Key, omitted []Omitted) ([]*Key, []Omitted) {
	byKID := make(map[string]*Key)
	ambiguous := make(map[string]bool)
	var once []*Key
	for _, k := range keys {
		other := byKID[k.kid]
		switch {
		case k.kid == "" || other == nil:
			byKID[k.kid] = k
			once = append(once, k)
		case other.fingerprint != k.fingerprint:
			ambiguous[k.kid] = true
		}
	}
	if len(ambiguous) == 0 {
		return once, omitted
	}
	var kept []*Key
	for _, k := range once {
		if !ambiguous[k.kid] {
			kept = append(kept, k)
		}
	}
	for i, entry := range list {
		if kid := entryKID(entry); ambiguous[kid] {
			if _, err := parseJWK(entry); err == nil {
				omitted = append(omitted, Omitted{Index: i, KeyID: kid, Reason: "has a kid that another key of the set has too"})
			}
		}
	}
	return kept, omitted
}

// entryKID returns the kid of an entry, or "" if it has none or is not an object.
func entryKID(entry []byte) (kid string) {
	_ = strictjson.Lenient(entry, func(name, value []byte) {
		if string(name) == "kid" {
			kid, _ = strictjson.String(value)
		}
	})
	return kid
}
