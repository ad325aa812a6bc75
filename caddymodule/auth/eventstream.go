package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// asksForEvents reports whether r accepts event streams and nothing else, as the requests of an EventSource do. The answer to one that
// accepts more may be something that must arrive whole. The answer to a HEAD has no events.
func asksForEvents(r *http.Request) (asks bool) {
	if r.Method == http.MethodHead {
		return false
	}
	for element := range ascii.Elements(r.Header["Accept"]...) {
		if !ascii.EqualFold(mediaType(element), eventStream) {
			return false
		}
		asks = true
	}
	return asks
}

// mediaType returns the media type of a value that may have parameters.
func mediaType(value string) string {
	kind, _, _ := strings.Cut(value, ";")
	return strings.Trim(kind, " \t")
}

const eventStream = "text/event-stream"

// streamKind returns the kind of the stream that a response with this status and head is, and session.Undecided for any other response. A
// response without a fixed length can go on for as long as the backend likes, unless it has no content at all.
func (g *guardedWriter) streamKind(status int) session.Kind {
	header := g.Header()
	switch {
	case status < http.StatusOK || status == http.StatusNoContent || status == http.StatusNotModified,
		g.request.Method == http.MethodHead, len(header["Content-Length"]) > 0:
		return session.Undecided
	case hasType(header, eventStream):
		if len(header["Content-Encoding"]) > 0 {
			return session.EncodedEvents
		}
		return session.EventStream
	case hasStreamType(header, g.handler.StreamTypes):
		return session.OtherStream
	}
	return session.Undecided
}

// hasStreamType reports whether a request or a response with these headers is of one of the types. The suffix of a type, as in
// application/grpc+proto, says only how its messages are encoded, and is ignored.
func hasStreamType(header http.Header, types []string) bool {
	return slices.ContainsFunc(types, func(kind string) bool { return hasType(header, kind) })
}

// hasType reports whether any of the media types that header names is want: clients do not agree on which of several counts.
func hasType(header http.Header, want string) bool {
	for _, value := range header["Content-Type"] {
		if len(value) < len(want) {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			kind := mediaType(part)
			if len(kind) > len(want) && kind[len(want)] == '+' {
				kind = kind[:len(want)]
			}
			if ascii.EqualFold(kind, want) {
				return true
			}
		}
	}
	return false
}

// checkStreamTypes refuses a text that is not a media type, one with parameters or a wildcard, and event streams.
func (h *Handler) checkStreamTypes() error {
	for i, kind := range h.StreamTypes {
		first, second, found := strings.Cut(kind, "/")
		switch {
		case !found || !httpguts.ValidHeaderFieldName(first) || !httpguts.ValidHeaderFieldName(second) || strings.Contains(kind, "*"):
			return fmt.Errorf("stream_types %q is not a media type without parameters, such as application/x-ndjson", kind)
		case ascii.EqualFold(kind, eventStream):
			return fmt.Errorf("stream_types %s: event streams are always ended; leave it out", kind)
		case slices.ContainsFunc(h.StreamTypes[:i], func(other string) bool { return ascii.EqualFold(kind, other) }):
			return fmt.Errorf("stream_types %s: is given twice; remove one", kind)
		}
	}
	return nil
}
