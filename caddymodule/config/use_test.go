package config

import (
	"strings"
	"testing"
)

// A warning that a messenger is not used must be right: names with placeholders can become many messengers.
func TestWhichMessengersADirectiveCanName(t *testing.T) {
	for _, test := range []struct {
		ref, name string
		want      bool
	}{
		{"support", "support", true},
		{"support", "sales", false},
		{"support", "support2", false},
		{"{http.request.uri.path.0}", "support", true},
		{"{http.request.uri.path.0}-eu", "support-eu", true},
		{"{http.request.uri.path.0}-EU", "support-eu", true},
		{"{http.request.uri.path.0}-eu", "support-us", false},
		{"chat-{http.request.uri.path.0}", "support", false},
		{"chat-{http.request.uri.path.0}", "chat-", true},
		{"{http.request.host.labels.2}-x-{http.request.uri.path.0}", "a-x-b", true},
		{"{http.request.host.labels.2}-x-{http.request.uri.path.0}", "a-x-x-b", true},
		{"{http.request.host.labels.2}-x-{http.request.uri.path.0}", "a-xb", false},
		{"{http.request.uri.path.0}.*", "support", false},
		{strings.Repeat("{http.request.uri.path.0}a", 60), strings.Repeat("a", 59) + "b", false},
	} {
		if got := RefCanName(test.ref, test.name); got != test.want {
			t.Errorf("messenger_auth %s, messenger %s: got %t, want %t", test.ref, test.name, got, test.want)
		}
	}
}
