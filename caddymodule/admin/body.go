package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// Requests are read strictly. What two readers could take for two different requests is refused, and so is a member that is there and
// has no value: if a value is lost on its way, a filter becomes none, and a change of one thing a change of all.

// readJSON reads the body of r into target; an empty body leaves target as it is. It requires the content type, because a
// browser cannot send that to another origin without a preflight, and it refuses unknown members, because a misspelled
// "distrust" must not be treated as a plain refresh.
func readJSON(r *http.Request, target any) error { return readBody(r, MaxAdminBody, target) }

// readBody is readJSON for a body of at most limit bytes.
func readBody(r *http.Request, limit int64, target any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return apierror.New(http.StatusUnsupportedMediaType, "the body must be JSON, with Content-Type: application/json")
	}
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if err != nil {
		return apierror.New(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body cannot be read, or has more than %d bytes", limit))
	}
	return decodeBody(text, target)
}

// decodeBody decodes the text of a body; if it is empty, target stays as it is.
func decodeBody(text []byte, target any) error {
	if len(text) == 0 {
		return nil
	}
	if !json.Valid(text) {
		return apierror.New(http.StatusBadRequest, "the body is not JSON") // the decoder's error would quote the body
	}
	if text = bytes.TrimSpace(text); text[0] != '{' {
		return errSchema("a member has a value of the wrong type")
	}
	if err := strictjson.Object(text, nil); err != nil {
		return apierror.New(http.StatusBadRequest, "the body "+err.Error())
	}
	if err := checkMembers(text); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		if _, member, unknown := strings.Cut(err.Error(), "json: unknown field "); unknown {
			return errSchema("unknown member " + shownName(strings.Trim(member, `"`)))
		}
		return errSchema("a member has a value of the wrong type")
	}
	return nil
}

func errSchema(why string) error {
	return apierror.New(http.StatusBadRequest, "the body does not match the expected schema: "+why)
}

// isMemberName reports whether a member that we know can have this name. Some others would be known to encoding/json as well, because it
// does not distinguish upper and lower case.
func isMemberName(name string) bool {
	return name != "" && strings.Trim(name, "_0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// checkMembers refuses members of a valid value, at any depth, that have no value or a name that encoding/json reads as another one.
func checkMembers(value []byte) (err error) {
	switch value[0] {
	case '{':
		_ = strictjson.Lenient(value, func(name, value []byte) {
			if err == nil {
				err = checkMember(string(name), value)
			}
		})
	case '[':
		var elements []json.RawMessage
		if json.Unmarshal(value, &elements) != nil {
			return nil // cannot happen: it is valid
		}
		for _, element := range elements {
			if strictjson.IsNull(element) {
				return errSchema("a list has the element null; leave it out")
			}
			if err = checkMembers(element); err != nil {
				return err
			}
		}
	}
	return err
}

func checkMember(name string, value []byte) error {
	switch {
	case !isMemberName(name):
		return errSchema("unknown member " + shownName(name) + "; the names of members are in lower case")
	case strictjson.IsNull(value), string(value) == `""` && !mayBeEmpty(name):
		return errSchema("the member " + shownName(name) + " has no value; leave it out if that is what you mean")
	case name == "lines": // of an export, which are read strictly later
		return nil
	default:
		return checkMembers(value)
	}
}

// mayBeEmpty reports whether a text may be empty, because it is no filter, and no restriction of anything.
func mayBeEmpty(name string) bool {
	return slices.Contains([]string{"after", "kid", "label", "encoding"}, name)
}

// shownName returns a name for an error, in quotes. Only a short word is repeated: a client may have written a token or a secret in place
// of a name, and the admin endpoint logs its errors.
func shownName(name string) string {
	const longest = 24
	if len(name) > longest || strings.Trim(name, "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "with a name that is not repeated here"
	}
	return `"` + name + `"`
}

// queryOf returns the names that the query of a request can have.
func queryOf(method, path string) []string {
	switch {
	case method == http.MethodGet && path == "messengers":
		return []string{"after", "limit", "search", "method", "mode", "source", "sort", "state"}
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
			return apierror.New(http.StatusBadRequest, "this request takes no query; it has one with "+shownName(name))
		case !slices.Contains(known, name):
			return apierror.New(http.StatusBadRequest, "the query has the unknown name "+shownName(name)+"; it takes "+strings.Join(known, ", "))
		case len(values) != 1:
			return apierror.New(http.StatusBadRequest, "the query has "+name+" more than once")
		case values[0] == "" && r.Method != http.MethodGet:
			return apierror.New(http.StatusBadRequest, name+" has no value in the query; leave it out if that is what you mean")
		}
	}
	return nil
}
