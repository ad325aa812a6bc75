package command

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The command asks the running gateway, and says what it answers.
func TestConnectionsCommand(t *testing.T) {
	var asked string
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.Method + " " + r.URL.Path + " " + string(body)
		answer := `{"ended":2}`
		if r.Method == http.MethodGet {
			answer = `{"open":3,"messengers":[{"messenger":"support","open":3,"oldest":"2026-05-01T12:00:00Z","next_end":"2026-05-01T12:10:00Z"}]}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer gateway.Close()
	address := "--address=" + strings.TrimPrefix(gateway.URL, "http://")
	for _, test := range []struct {
		args                  []string
		asked, printed, fails string
	}{
		{[]string{}, "GET /messenger/connections ", "3 open\n\n  support  3 open\n    the oldest since 2026-05-01T12:00:00Z, the next ends by 2026-05-01T12:10:00Z\n", ""},
		{[]string{"end", "support"}, `POST /messenger/connections/end {"messenger":"support"}`, "2 ended\n", ""},
		{[]string{"end", "support", "--identity", "mark", "--issued-before", "2026-05-01T12:00:00Z"},
			`POST /messenger/connections/end {"messenger":"support","identity":"mark","issued_before":"2026-05-01T12:00:00Z"}`, "2 ended\n", ""},
		{[]string{"end", "support", "--token-id", "1", "--key", "ab", "--json"}, `POST /messenger/connections/end {"messenger":"support","token_id":"1","key":"ab"}`, "{\n  \"ended\": 2\n}\n", ""},
		{[]string{"end"}, "", "", "name the messenger"},
		{[]string{"end", ""}, "", "", "not the name of a messenger"},
		{[]string{"end", "support", "--identity", ""}, "", "", "--identity is empty"},
		{[]string{"end", "support", "--issued-before", "yesterday"}, "", "", "--issued-before takes a time"},
		{[]string{"end", "support", "--issued-before", "0001-01-01T00:00:00Z"}, "", "", "--issued-before is the year 1"},
		{[]string{"end", "support", "--issued-before", "0001-01-01T01:00:00+01:00", "--identity", "mark"}, "", "", "--issued-before is the year 1"},
		{[]string{"end", "eyJhbGciOiJIUzI1NiJ9.e30.x"}, "", "", "not the name of a messenger"},
	} {
		asked = ""
		var printed bytes.Buffer
		cmd := all()
		cmd.SetArgs(append(append([]string{"connections"}, test.args...), address))
		cmd.SetOut(&printed)
		cmd.SetErr(io.Discard)
		err := cmd.Execute()
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) || asked != "" || strings.Contains(err.Error(), "eyJ") {
				t.Errorf("%q: error %v, asked %q", test.args, err, asked)
			}
			continue
		}
		if err != nil || asked != test.asked || printed.String() != test.printed {
			t.Errorf("%q: error %v, asked %s, printed %q", test.args, err, asked, printed.String())
		}
	}
}
