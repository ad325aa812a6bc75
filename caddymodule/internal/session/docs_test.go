package session

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The documented table has the codes with which connections end, and no others.
func TestDocsHaveTheCloseCodes(t *testing.T) {
	text, err := os.ReadFile("../../docs/connections.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Long-lived connections\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d{4}) \\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, row[1]+" "+row[2])
	}
	var used []string
	for _, e := range []Ending{Expired, Revoked, Limit, TooMany, Shutdown} {
		used = append(used, fmt.Sprint(e.Code, " ", e.Reason))
	}
	if got, want := fmt.Sprint(listed), fmt.Sprint(used); got != want {
		t.Errorf("the table has %s, want %s", got, want)
	}
	if text, err = os.ReadFile("../../docs/monitoring.md"); err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile("(?m)^\\| `caddy_messenger_auth_connections_ended_total`.*$").FindString(string(text))
	for _, e := range []Ending{Expired, Revoked, Limit, TooMany, Shutdown} {
		if !strings.Contains(metric, "`"+e.Reason+"`") {
			t.Errorf("the metric of ended connections does not have the reason %s", e.Reason)
		}
	}
}
