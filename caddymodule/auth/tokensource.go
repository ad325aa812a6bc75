package auth

import (
	"errors"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// TokenSource is a part of a request in which a token may be sent.
type TokenSource struct {
	// The kind of source: "header", "cookie", "query", "websocket_protocol" or "ticket". Required.
	From authn.SourceKind `json:"from,omitempty"`

	// The name of the header, the cookie, or the query parameter (also of a ticket). For websocket_protocol it is the marker, the
	// subprotocol that the client offers directly before the token. Required.
	Name string `json:"name,omitempty"`

	// The authentication scheme before the token, for headers only. Default: none, the whole value is the token.
	Scheme string `json:"scheme,omitempty"`

	// Whether the name is a prefix, and the token follows it in the same subprotocol; for websocket_protocol only. The
	// subprotocol is never repeated in the answer, so that a page has to offer another one as well. Default: false.
	Prefix bool `json:"prefix,omitempty"`

	// How the token is encoded behind a prefix: "base64url" without padding, such as behind base64url.bearer.phx. Default:
	// none, the token follows as it is.
	Encoding string `json:"encoding,omitempty"`
}

const encodingBase64URL = "base64url"

// check refuses sources that cannot carry a token. Its errors continue a sentence that begins with the source.
func (s TokenSource) check() error {
	if s.From != authn.Header && s.Scheme != "" {
		return errors.New("only a header has a scheme; remove it")
	}
	if s.From != authn.WebSocketProtocol && s.Prefix {
		return errors.New("only a subprotocol has a prefix; remove it")
	}
	if s.Encoding != "" && (!s.Prefix || s.Encoding != encodingBase64URL) {
		return errors.New("the encoding is base64url, and only behind a prefix: websocket_protocol prefix <prefix> base64url")
	}
	switch s.From {
	case authn.Header:
		if !httpguts.ValidHeaderFieldName(s.Name) {
			return errors.New("is not a header name; write it without a colon, a blank or other special characters")
		}
		name := upstream.Fold(s.Name)
		switch {
		case slices.Contains([]string{"cookie", "referer", "host", "connection", "upgrade", "trailer", "te", "transfer-encoding", "http2-settings", "origin", "range", "expect", "date", "accept"}, name),
			strings.HasPrefix(name, "sec-"), strings.HasPrefix(name, "content-"), strings.HasPrefix(name, "access-control-"):
			return errors.New("this header already has a meaning in HTTP; for tokens in cookies and subprotocols use the sources cookie and websocket_protocol")
		}
		if s.Scheme != "" && !httpguts.ValidHeaderFieldName(s.Scheme) {
			return errors.New("the scheme is not a valid authentication scheme")
		}
	case authn.Cookie, authn.WebSocketProtocol:
		if !httpguts.ValidHeaderFieldName(s.Name) {
			return errors.New("the name has characters other than letters, digits and !#$%&'*+-.^_`|~")
		}
	case authn.Query, authn.Ticket:
		if s.Name == "" {
			return errors.New("the name of the parameter is missing")
		}
		if strings.Contains(s.Name, "{") {
			return errors.New("the name of the parameter has a placeholder; write the name itself")
		}
	default:
		return errors.New("is not one of: header, cookie, query, websocket_protocol, ticket")
	}
	return nil
}

// isOtherSpelling reports whether s and other find the same tokens: in one header with two spellings, or behind one prefix with and
// without an encoding.
func (s TokenSource) isOtherSpelling(other TokenSource) bool {
	if s.Prefix && other.Prefix && s.Name == other.Name {
		return true
	}
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
		list[i] = authn.Source{Kind: s.From, Name: s.Name, Scheme: s.Scheme, Prefix: s.Prefix, Encoded: s.Encoding != ""}
		if s.From == authn.Header {
			list[i].Name = textproto.CanonicalMIMEHeaderKey(s.Name)
		}
	}
	return list
}
