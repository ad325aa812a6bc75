package admin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// readJSON reads the body of r into target; an empty body leaves target as it is.
func readJSON(r *http.Request, target any) error { return readBody(r, MaxAdminBody, target) }

// readBody is readJSON for a body of at most limit bytes.
func readBody(r *http.Request, limit int64, target any) error {
	text, err := readText(r, limit)
	if err != nil || len(text) == 0 {
		return err
	}
	return errBody(strictjson.Decode(text, target, exceptions))
}

// readSettings reads a body that has the settings of a messenger.
func readSettings(r *http.Request) (*config.Messenger, error) {
	text, err := readText(r, MaxAdminBody)
	if err != nil {
		return nil, err
	}
	m, err := config.DecodeSettings(text)
	return m, errBody(err)
}

// readText reads a body of at most limit bytes. It requires the content type, because a browser cannot send that to another origin without
// a preflight.
func readText(r *http.Request, limit int64) ([]byte, error) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return nil, apierror.New(http.StatusUnsupportedMediaType, "the body must be JSON, with Content-Type: application/json")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, apierror.New(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit))
	}
	if err != nil { // its end did not arrive, for example
		return nil, apierror.New(http.StatusBadRequest, "the body could not be read to its end")
	}
	return text, nil
}

func errBody(err error) error {
	if err != nil {
		return apierror.New(http.StatusBadRequest, "the body "+err.Error())
	}
	return nil
}

// exceptions are members that name nothing, or do not restrict anything, if they are empty; and the lines of an export, which are read
// one by one.
var exceptions = strictjson.Exceptions{Empty: []string{"after", "kid", "label", "encoding"}, Raw: []string{"lines"}}

// queryOf returns the names that the query of a request can have.
func queryOf(method, path string) []string {
	switch {
	case method == http.MethodGet && path == "messengers":
		return listNames()
	case method == http.MethodPut && path == "messengers/{name}":
		return []string{"confirm", "keep_previous"}
	}
	return nil
}

// checkQuery refuses a query with a name that is unknown or there more than once, and for a change also one that has no value.
func checkQuery(r *http.Request, path string) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return apierror.New(http.StatusBadRequest, "the query is not well-formed; percent-encode the values")
	}
	known := queryOf(r.Method, path)
	for name, values := range values {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return apierror.New(http.StatusBadRequest, "this request takes no query; it has one with "+strictjson.Shown(name))
		case !slices.Contains(known, name):
			return apierror.New(http.StatusBadRequest, "the query has the unknown name "+strictjson.Shown(name)+"; it takes "+strings.Join(known, ", "))
		case len(values) != 1:
			return apierror.New(http.StatusBadRequest, "the query has "+name+" more than once")
		case values[0] == "" && r.Method != http.MethodGet:
			return apierror.New(http.StatusBadRequest, name+" has no value in the query; give it one, or leave it out")
		}
	}
	return nil
}
