package auth

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// removeToken removes the token, unless forward_token is set: then only from headers that another messenger_auth sets. It changes the
// request in place: Caddy's placeholders, its error routes and later handlers all read these very URLs and headers.
func (h *Handler) removeToken(r *http.Request) {
	h.headers.RemoveShared(r, upstream.OutcomeOf(r))
	if h.ForwardToken {
		return
	}
	if !h.takesQuery {
		h.sources.Remove(r, nil)
		return
	}
	original, _ := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	h.sources.Remove(r, original.URL)
	cleanOriginalURI(r, &original)
}

// cleanOriginalURI removes the token from {http.request.orig_uri}. Sites and handlers such as forward_auth send this placeholder
// upstream. Caddy stores its text apart from the URL that was cleaned, so it is replaced by a placeholder of the same name, which has
// precedence over Caddy's own.
func cleanOriginalURI(r *http.Request, original *http.Request) {
	path, query, found := strings.Cut(original.RequestURI, "?")
	if !found || original.URL == nil || query == original.URL.RawQuery {
		return
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if original.URL.RawQuery != "" {
			path += "?" + original.URL.RawQuery
		}
		repl.Set("http.request.orig_uri", path)
	}
}

// answerProtocol returns a writer for the answer to the handshake r. It selects the subprotocol that announced the token if the upstream
// selects none: a browser that offered subprotocols gives up on an answer without one, and the upstream was not offered
// this one.
func answerProtocol(w http.ResponseWriter, r *http.Request, o *upstream.Outcome) http.ResponseWriter {
	if o.Marker == "" || !o.Handshake {
		return w
	}
	completed := http.StatusSwitchingProtocols
	if r.Method == http.MethodConnect {
		completed = http.StatusOK
	}
	return &protocolWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, marker: o.Marker, completed: completed}
}

// A protocolWriter adds the subprotocol marker to the answer that opens the WebSocket.
type protocolWriter struct {
	*caddyhttp.ResponseWriterWrapper
	marker    string
	completed int // the status that opens the WebSocket
}

// WriteHeader implements http.ResponseWriter.
func (w *protocolWriter) WriteHeader(status int) {
	header := w.Header()
	// reverse_proxy writes this header as RFC 6455 spells it, which is not the canonical form of net/http
	selected := len(header["Sec-WebSocket-Protocol"]) > 0 || len(header["Sec-Websocket-Protocol"]) > 0 //nolint:staticcheck // SA1008: see above
	if !selected && status == w.completed {
		header["Sec-WebSocket-Protocol"] = []string{w.marker}
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}
