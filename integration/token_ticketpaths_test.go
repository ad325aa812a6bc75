package integration

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A ticket for one path is stolen, and tried at other spellings of it that a backend may read as another file. Then pages ask for
// tickets for paths as browsers write them, which escape fewer characters than Go does.
func TestTicketIsForOnePath(t *testing.T) {
	up := newUpstream(t)
	messengers, secret := strict(t, "")
	g := start(t, up, messengers, ticketRoute("support", "", "reverse_proxy UPSTREAM"))
	token := sign(secret, claims{"identity": "mark", "exp": time.Now().Unix() + 600})
	ticket := func(path string) string {
		body, err := json.Marshal(map[string]string{"path": path})
		if err != nil {
			t.Fatal(err)
		}
		return ticketOf(t, g.url+"/support/ticket", token, string(body))
	}
	request := func(method, path, query string) answer {
		return g.raw(method + " " + path + "?" + query + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n\r\n")
	}
	stolen := ticket("/support/files/7")
	for _, path := range []string{"/support/files/8", "/support/files//7", "/support/files/7/", "/support/files/./7", "/support/x/../files/7", "/support/files/%37",
		"/support/files%2f7", "/support/files/7%2f", "/support/files/7%00", "/support/files/7;x", "/support/Files/7", "/support/files", "/support/files/7%20", "/support/files/7\\",
		"//support/files/7", "/support/files/7%2f..%2f8"} {
		if a := request("GET", path, "ticket="+stolen); a.status < 400 || a.status == 401 && a.code(t) != "ticket_invalid" {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
	}
	for name, test := range map[string][2]string{
		"HEAD":                   {"HEAD", "ticket=" + stolen},
		"PUT":                    {"PUT", "ticket=" + stolen},
		"OPTIONS":                {"OPTIONS", "ticket=" + stolen},
		"another parameter":      {"GET", "tickets=made-up"},
		"in capitals":            {"GET", "Ticket=made-up"},
		"a list":                 {"GET", "ticket[]=made-up"},
		"behind a semicolon":     {"GET", "a=1;ticket=" + stolen},
		"cut":                    {"GET", "ticket=" + stolen[:len(stolen)-1]},
		"with padding":           {"GET", "ticket=" + stolen + "="},
		"with a line break":      {"GET", "ticket=" + stolen[:50] + "%0A" + stolen[50:]},
		"beside an empty one":    {"GET", "ticket=" + stolen + "&ticket="},
		"beside one that is not": {"GET", "ticket=" + stolen + "&ticket=x"},
	} {
		a := request(test[0], "/support/files/7", test[1])
		if a.status != 401 && a.status != 400 || strings.HasSuffix(test[1], "made-up") && a.code(t) != "token_missing" {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	up.none(t)
	if a := request("GET", "/support/files/7", "a=1&%74%69cket="+stolen); a.status != 200 || up.one(t).uri != "/support/files/7?a=1" {
		t.Errorf("after all that, it is not valid: got %d %s", a.status, a.body)
	}

	for _, paths := range [][2]string{
		{"/support/a|b^c", "/support/a|b^c"}, // as Chromium writes them
		{"/support/[7]'(8)", "/support/[7]'(8)"},
		{"/support/Zo%C3%AB", "/support/Zo%C3%AB"},
		{"/support/Zoë", "/support/Zo%C3%AB"}, // a program that does not escape
		{"/support/a%20b%2Fc", "/support/a%20b%2Fc"},
		{"/support//7;v=1:@!$&*+,=~", "/support//7;v=1:@!$&*+,=~"},
	} {
		if a := request("GET", paths[1], "ticket="+ticket(paths[0])); a.status != 200 {
			t.Errorf("the ticket for %s: got %d %s", paths[0], a.status, a.body)
		}
		up.take()
	}
	for _, path := range []string{"", "files", "https://chat.example.com/support/7", "/support/7?a=1", "/support/7#a", "/support/%zz", "/support/7\x00", "/" + strings.Repeat("a", 2<<10)} {
		body, err := json.Marshal(map[string]string{"path": path})
		if err != nil {
			t.Fatal(err)
		}
		if a := g.raw("POST /support/ticket HTTP/1.1\r\nHost: " + g.addr + "\r\n" + bearer(token) + "\r\nConnection: close\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + string(body)); a.status != 400 || a.code(t) != "ticket_request_invalid" {
			t.Errorf("a ticket for %.40q: got %d %s", path, a.status, a.body)
		}
	}
}
