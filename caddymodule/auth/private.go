package auth

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// Answers to contacts stay out of shared caches. A cache does not store the answer to a request with Authorization (RFC 9111
// section 3.5); but that header is removed here, and the rule does not cover a token in a cookie or a query. If a response
// says nothing about caching, a cache may choose a lifetime itself, and send one contact's answer to the next.

// A privateWriter is the response to a contact. It makes the response private if nothing has been said about caching by the
// time its head is written, and passes everything on.
type privateWriter struct {
	caddyhttp.ResponseWriterWrapper
	value  [1]string    // of this response alone: handlers in front may change it in place
	begun  bool         // the head was prepared by begin
	public bool         // the response says itself how it may be cached
	page   *crossOrigin // the page that may read the response; nil without cors
}

// begin prepares a head that is about to be written. It skips informational responses, which are not the answer, and a 101, which
// caches do not store.
func (w *privateWriter) begin(status int) {
	if w.begun || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	w.begun = true
	if status < 200 {
		return
	}
	w.page.allow(w.Header())
	if !w.public {
		w.value[0] = "private"
		makePrivate(w.Header(), w.value[:])
	}
}

// beginAnswer prepares the head of an answer whose handler has written nothing: net/http sends the status 200 then.
func beginAnswer(w http.ResponseWriter) {
	if p, ok := w.(*privateWriter); ok {
		p.begin(http.StatusOK)
	}
}

// makePrivate adds value, which is "private", if the response does not say how it may be cached.
func makePrivate(header http.Header, value []string) {
	present := header["Cache-Control"]
	switch {
	case slices.ContainsFunc(present, controlsStoring) || slices.ContainsFunc(header["Expires"], isFilled):
	case slices.ContainsFunc(present, isFilled):
		header["Cache-Control"] = append(slices.Clone(present), value...)
	default:
		header["Cache-Control"] = value
	}
}

// isFilled reports whether a list header has any element.
func isFilled(value string) bool { return strings.Trim(value, " \t,") != "" }

// controlsStoring reports whether a Cache-Control says who may store the response, or for how long. With no-transform or immutable
// alone it does not: a cache then chooses as it does without Cache-Control. Neither does it if it is about some header fields only
// (RFC 9111 sections 5.2.2.4 and 5.2.2.7).
func controlsStoring(value string) bool {
	for directive := range ascii.Elements(value) {
		name, _, some := strings.Cut(directive, "=")
		switch ascii.Lower(strings.TrimRight(name, " \t")) {
		case "private", "no-cache":
			if !some {
				return true
			}
		case "public", "no-store", "max-age", "s-maxage", "must-revalidate":
			return true
		}
	}
	return false
}

// WriteHeader implements http.ResponseWriter.
func (w *privateWriter) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *privateWriter) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, which saves a copy.
func (w *privateWriter) ReadFrom(from io.Reader) (int64, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriterWrapper.ReadFrom(from)
}

// FlushError is called by http.ResponseController.
func (w *privateWriter) FlushError() error {
	w.begin(http.StatusOK)
	return w.flush()
}

func (w *privateWriter) flush() error { return http.NewResponseController(w.ResponseWriter).Flush() }

// servePrivately calls next with a response that stays out of shared caches.
func servePrivately(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	p := new(privateWriter)
	p.ResponseWriter = w
	err := next.ServeHTTP(p, r)
	if err == nil {
		p.begin(http.StatusOK) // net/http sends this status for a handler that writes nothing
	}
	return err
}

// Interface guards
var (
	_ io.ReaderFrom                   = (*privateWriter)(nil)
	_ interface{ FlushError() error } = (*privateWriter)(nil)
)
