package auth

import (
	"net/http"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ascii"
)

// asksForEvents reports whether r is what an EventSource sends.
func asksForEvents(r *http.Request) bool {
	return slices.ContainsFunc(r.Header["Accept"], func(value string) bool { return strings.Contains(value, eventStream) })
}

const eventStream = "text/event-stream"

// beginsEvents reports whether a response with this head is a live event stream. One with a Content-Length is a recording.
func beginsEvents(status int, header http.Header) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified &&
		len(header["Content-Length"]) == 0 && isEventStream(header)
}

// isEventStream reports whether any of the media types that header names is that of event streams: clients do not agree on
// which of several counts.
func isEventStream(header http.Header) bool {
	for _, value := range header["Content-Type"] {
		if len(value) < len(eventStream) {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			if kind, _, _ := strings.Cut(part, ";"); ascii.EqualFold(strings.Trim(kind, " \t"), eventStream) {
				return true
			}
		}
	}
	return false
}
