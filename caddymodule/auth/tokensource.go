package auth

import (
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// check refuses sources that cannot carry a token. Its errors continue a sentence that begins with the source.
func (s TokenSource) check() error {
	if s.From != authn.Header && s.Scheme != "" {
		return errors.New("only a header has a scheme; remove it")
	}
	switch s.From {
	case authn.Header:
		if !httpguts.ValidHeaderFieldName(s.Name) {
			return errors.New("is not a header name")
		}
		switch upstream.Fold(s.Name) {
		case "cookie", "sec-websocket-protocol", "referer", "host", "connection", "upgrade", "trailer", "te", "transfer-encoding", "content-length":
			return errors.New("this header has a meaning of its own; tokens in cookies and subprotocols have sources of their own (cookie, websocket_protocol)")
		}
		if s.Scheme != "" && !httpguts.ValidHeaderFieldName(s.Scheme) {
			return errors.New("the scheme is not a word that can stand in front of a token")
		}
	case authn.Cookie, authn.WebSocketProtocol:
		if !httpguts.ValidHeaderFieldName(s.Name) {
			return errors.New("the name is not a token in the sense of HTTP (letters, digits and !#$%&'*+-.^_`|~)")
		}
	case authn.Query:
		if s.Name == "" {
			return errors.New("the name of the parameter is missing")
		}
	default:
		return errors.New("is none of header, cookie, query, websocket_protocol")
	}
	return nil
}

// isOtherSpelling reports whether s and other are two names of one header.
func (s TokenSource) isOtherSpelling(other TokenSource) bool {
	return s.From == authn.Header && other.From == authn.Header && upstream.Fold(s.Name) == upstream.Fold(other.Name) &&
		textproto.CanonicalMIMEHeaderKey(s.Name) != textproto.CanonicalMIMEHeaderKey(other.Name)
}

// sources returns the configured sources, or the default.
func sources(configured []TokenSource) authn.Sources {
	if len(configured) == 0 {
		configured = []TokenSource{{From: authn.Header, Name: "Authorization", Scheme: "Bearer"}}
	}
	list := make(authn.Sources, len(configured))
	for i, s := range configured {
		list[i] = authn.Source{Kind: s.From, Name: s.Name, Scheme: s.Scheme}
		if s.From == authn.Header {
			list[i].Name = textproto.CanonicalMIMEHeaderKey(s.Name)
		}
	}
	return list
}

// cleanOriginalURI removes the token from {http.request.orig_uri}. Sites send this placeholder upstream, and forward_auth and
// others do so by themselves. Caddy stores its text apart from the URL that was cleaned, so it is replaced by a placeholder of
// the same name, which has precedence over Caddy's own.
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

// answerProtocol returns a writer for the answer to the handshake r. It selects the subprotocol marker if the upstream
// selects none: a browser that offered subprotocols gives up on an answer without one, and the upstream was not offered
// this one.
func answerProtocol(w http.ResponseWriter, r *http.Request, marker string) http.ResponseWriter {
	if marker == "" || !upstream.IsHandshake(r) {
		return w
	}
	completed := http.StatusSwitchingProtocols
	if r.Method == http.MethodConnect {
		completed = http.StatusOK
	}
	return &protocolWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, marker: marker, completed: completed}
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
