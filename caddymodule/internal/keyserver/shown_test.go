package keyserver

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestShownHidesTheValuesOfAQuery(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.example/keys":               "https://a.example/keys",
		"https://a.example/keys?key=s3cret&v=": "https://a.example/keys?key=…&…",
		"https://a.example/?s3cret":            "https://a.example/?…",
		"https://a.example/?a=b=s3cret?c":      "https://a.example/?a=…",
		"https://s3cret@a.example/k@y":         "https://…@y",
		"https://a:s3cr@et@a.example?v=1":      "https://…@a.example?v=…",
		"https://a.example/?czNjcmV0==":        "https://a.example/?…",
		"https://a.example/?v=me@s3cret":       "https://a.example/?v=…",
		"https://a.example?s3cret":             "https://a.example?…",
		"https://a.example?v=me@s3cret":        "https://…",
		"//a:s3cret@a.example/a//b@c":          "//…@c",
		"a:s3cret@a.example/keys":              "…@a.example/keys",
		"s3cret@a.example":                     "…@a.example",
	} {
		if got := Shown(address); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

// Whatever is written in place of a URL, a mistake in it does not show a password.
func TestShownHidesPasswordsInMistakes(t *testing.T) {
	for _, written := range []string{
		"https:/a:s3cret@a.example/keys", "https:///a:s3cret@a.example/keys", "/a:s3cret@a.example//keys", "a:s3cret@a.example//keys", "https://a:s3cret/x@a.example/keys",
		"https://a:s3cret?x@a.example/keys", "https://a:s3cret?x=y@a.example/keys", "https://a.example/keys#s3cret", "https:a:s3cret@a.example", "https://a:s3cret#x@a.example/keys",
		"https://a:s3cret%@a.example/", "://a:s3cret@a.example", "https://[a:s3cret@a.example/", "https://a:x@s3cret@a.example/",
		"https://https://a:s3cret@a.example/keys", "http://https://a:s3cret@a.example/keys", "https://a:2024/s3cret@a.example/keys", "https://a:p@ss/s3cret@a.example/keys",
		"https://s3cret/x@a.example/keys", "https://a:s3cret%40a.example/keys", `https:\\\\a:s3cret@a.example`, "https://a.example, https://a:s3cret@b.example/",
		"https://s3cret?x@a.example/keys", "https://s3cret#x@a.example/keys", "https://a:31415926s3cret#@a.example/keys",
		"https://a:s3cret@b.example@/", "https://a:s3cret\nb@b.example/",
	} {
		if got := Shown(written); strings.Contains(got, "s3cret") {
			t.Errorf("%s: got %s", written, got)
		}
	}
}

// A key server repeats what it was asked for, in any form and in each place that an error or an answer can quote. Of a URL without a query
// it has nothing to repeat, and the operator sees what it says.
func TestErrorsDoNotRepeatTheQuery(t *testing.T) {
	forms := map[string][]string{ // of a value as it is written, what a server can make of it
		"Ab%2BcD%2Fef12Gh": {"Ab+cD/ef12Gh", "Ab%2BcD%2Fef12Gh", "Ab%2bcd%2fef12gh", "Ab%252BcD%252Fef12Gh", "%41b+cD/ef12Gh", "ab+cd/ef12gh"},
		"Ab+cD/ef12Gh==":   {"Ab cD/ef12Gh==", "Ab%20cD/ef12Gh", "Ab%2BcD%2Fef12Gh%3D%3D", "Ab+cD/ef12Gh"},
		"Ab|cD-ef_12Gh":    {"Ab|cD-ef_12Gh", "Ab%7CcD%2Def%5F12Gh"},
		"Ab%20cD%22ef%5C1": {`Ab cD"ef\1`, "Ab+cD%22ef%5C1", `Ab cD\"ef\\1`},
		"Ab0123456789Ab01": {strings.Repeat("x", 190) + "Ab0123456789Ab01", strings.Repeat("x", 30) + "Ab0123456789Ab01", strings.Repeat("x", 70) + "Ab0123456789Ab01"},
	}
	answers := map[string]string{
		"a redirect":           "HTTP/1.1 302 Found\r\nLocation: http://other.example/login/VALUE\r\nContent-Length: 0\r\n\r\n",
		"a host":               "HTTP/1.1 302 Found\r\nLocation: http://VALUE.example/\r\nContent-Length: 0\r\n\r\n",
		"a redirect to no URL": "HTTP/1.1 302 Found\r\nLocation: http://[::1/login?next=VALUE\r\nContent-Length: 0\r\n\r\n",
		"a content encoding":   "HTTP/1.1 200 OK\r\nContent-Encoding: VALUE\r\nContent-Length: 2\r\n\r\n{}",
		"a content type":       "HTTP/1.1 200 OK\r\nContent-Type: text/VALUE\r\nContent-Length: 2\r\n\r\n{}",
		"a status":             "HTTP/1.1 VALUE\r\n\r\n",
		"a header":             "HTTP/1.1 200 OK\r\nX VALUE\r\n\r\n",
		"a transfer encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: VALUE\r\n\r\n",
		"a length":             "HTTP/1.1 200 OK\r\nContent-Length: VALUE\r\n\r\n",
		"metadata":             "HTTP/1.1 200 OK\r\n\r\n{\"issuer\": \"https://login.example/VALUE\", \"jwks_uri\": \"https://login.example/\"}",
		"a jwks_uri":           "HTTP/1.1 200 OK\r\n\r\n{\"issuer\": \"https://issuer.example\", \"jwks_uri\": \"http://login.example/VALUE\"}",
	}
	fetch := func(answer, query string) (*Answer, error) {
		client := NewClient(newRawServer(t, answer)+"/"+query, false)
		result, err := client.Fetch(t.Context(), Validators{})
		if err == nil && strings.Contains(answer, "issuer") {
			_, err = (&Discovery{Issuer: "https://issuer.example", Metadata: client}).Fetch(t.Context(), Validators{})
		}
		return result, err
	}
	for place, answer := range answers {
		for written, repeated := range forms {
			for _, form := range repeated {
				for _, query := range []string{"?key=" + written, "?" + written, "?v=1;key=" + written} {
					result, err := fetch(strings.ReplaceAll(answer, "VALUE", form), query)
					if err != nil && err.Error() != Reason(err).Error() || result != nil && result.ContentType != "" {
						t.Errorf("%s with %q: %v, %+v", place, form, err, result)
					}
				}
			}
		}
		result, err := fetch(strings.ReplaceAll(answer, "VALUE", "a-word"), "")
		if text := fmt.Sprintf("%v %+v", err, result); !strings.Contains(text, "a-word") {
			t.Errorf("%s, asked without a query: %s", place, text)
		}
	}
}

// Metadata that were asked for with a secret name another host. What fails there does not say which.
func TestErrorsDoNotNameAHostOfConfidentialMetadata(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\n\r\n{\"issuer\": \"https://issuer.example\", \"jwks_uri\": \"https://s3cret.invalid/\"}"
	for _, confidential := range []bool{true, false} {
		client := NewClient(newRawServer(t, answer), false)
		if confidential {
			client.Access = withHeader
		}
		_, err := (&Discovery{Issuer: "https://issuer.example", Metadata: client}).Fetch(t.Context(), Validators{})
		if err == nil || strings.Contains(err.Error(), "s3cret") == confidential {
			t.Errorf("confidential %t: %v", confidential, err)
		}
	}
}

// What the machine or Go's library says itself is shown to operators also if the request had secrets.
func TestErrorsOfTheNetworkAreShown(t *testing.T) {
	closed := newRawServer(t, "")
	for what, test := range map[string]struct{ address, says string }{
		"no answer":                 {closed + "/?key=s3cret", "EOF"},
		"a closed port":             {"http://127.0.0.1:1/?key=s3cret", "connection refused"},
		"an unknown name":           {"https://unknown.invalid/?key=s3cret", "lookup unknown.invalid"},
		"a status other than 200":   {newRawServer(t, "HTTP/1.1 403 s3cret\r\nContent-Length: 0\r\n\r\n") + "/?key=s3cret", "403"},
		"a redirect without target": {newRawServer(t, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n") + "/?key=s3cret", ""},
	} {
		if _, err := NewClient(test.address, false).Fetch(t.Context(), Validators{}); err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// newRawServer returns the URL of a server that answers every request with these bytes.
func newRawServer(t *testing.T, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = conn.Write([]byte(answer))
			}
			_ = conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}
