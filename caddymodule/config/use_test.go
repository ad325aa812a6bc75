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
		{"a{http.request.uri.path.0}a", "a", false},
		{"{http.request.uri.path.0}{http.request.uri.path.1", "support", true},
		{strings.Repeat("{http.request.uri.path.0}a", 60), strings.Repeat("a", 59) + "b", false},
	} {
		if got := RefCanName(test.ref, test.name); got != test.want {
			t.Errorf("messenger_auth %s, messenger %s: got %t, want %t", test.ref, test.name, got, test.want)
		}
	}
}

// A load compares every route with every messenger: with 1,000 of each, to compile an expression for each pair would take half a minute.
func TestComparingRoutesWithMessengersCompilesNothing(t *testing.T) {
	allocations := testing.AllocsPerRun(10, func() { RefCanName("chat-{http.request.host.labels.2}-x-{http.request.uri.path.0}", "support") })
	if allocations > 15 {
		t.Errorf("one comparison allocates %.0f times", allocations)
	}
}
