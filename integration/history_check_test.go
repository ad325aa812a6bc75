package integration

import (
	"testing"
	"time"
)

// The model itself: what it finds in small histories that were written by hand.
func TestModelOfAcknowledgedChanges(t *testing.T) {
	made := func(kind, target, outcome string, start, end time.Duration) *change {
		return &change{kind: kind, messenger: "a", target: target, outcome: outcome, start: start, end: end}
	}
	born := made("generate", "", acked, 10, 11)
	p := &pass{messenger: "a", kid: "k", jti: "1", identity: "mark", born: born}
	all := func(*change) bool { return true }
	for name, test := range map[string]struct {
		changes   ledger
		must, may bool
	}{
		"nothing happened":                           {nil, false, false},
		"a revocation that was acknowledged":         {ledger{made("revoke", "jti 1", acked, 20, 21)}, true, true},
		"a logout":                                   {ledger{made("logout", "jti 1", acked, 20, 21)}, true, true},
		"a revocation of the contact":                {ledger{made("revoke", "identity mark", acked, 20, 21)}, true, true},
		"a revocation of all":                        {ledger{made("revoke", "all", acked, 20, 21)}, true, true},
		"a revocation before the token was made":     {ledger{made("revoke", "all", acked, 5, 6)}, true, true},
		"a revocation of another token":              {ledger{made("revoke", "jti 2", acked, 20, 21)}, false, false},
		"a revocation that was refused":              {ledger{made("revoke", "jti 1", refused, 20, 21)}, false, false},
		"a revocation without a clear answer":        {ledger{made("revoke", "jti 1", unknown, 20, 21)}, false, true},
		"one that is under way":                      {ledger{made("revoke", "jti 1", "", 20, 1<<62)}, false, true},
		"one that was undone":                        {ledger{made("revoke", "jti 1", acked, 20, 21), made("undo", "jti 1", acked, 30, 31)}, false, false},
		"one without a clear answer that was undone": {ledger{made("revoke", "jti 1", unknown, 20, 21), made("undo", "jti 1", acked, 30, 31)}, false, true},
		"one that may have been undone":              {ledger{made("revoke", "jti 1", acked, 20, 21), made("undo", "jti 1", unknown, 30, 31)}, false, true},
		"one whose undoing was refused":              {ledger{made("revoke", "jti 1", acked, 20, 21), made("undo", "jti 1", refused, 30, 31)}, true, true},
		"one that was made while another was undone": {ledger{made("revoke", "jti 1", acked, 20, 31), made("undo", "jti 1", acked, 25, 30)}, false, true},
		"one that was made after another was undone": {ledger{made("undo", "jti 1", acked, 15, 16), made("revoke", "jti 1", acked, 20, 21)}, true, true},
		"one with the undoing of another target":     {ledger{made("revoke", "jti 1", acked, 20, 21), made("undo", "all", acked, 30, 31)}, true, true},
		"one of a messenger that was deleted before": {ledger{made("revoke", "jti 1", acked, 3, 4), made("delete", "", acked, 5, 6)}, false, false},
		"one before the messenger was created again": {ledger{made("revoke", "jti 1", acked, 5, 6), made("create", "v", acked, 8, 9)}, false, true},
		"a reset":                                         {ledger{made("reset", "", acked, 20, 21)}, true, true},
		"a reset before the token was made":               {ledger{made("reset", "", acked, 5, 6)}, false, false},
		"a reset while the token was made":                {ledger{made("reset", "", acked, 9, 12)}, false, true},
		"a reset without a clear answer before":           {ledger{made("reset", "", unknown, 5, 6)}, false, true},
		"a revocation of the shared token":                {ledger{made("revoke-kid", "kid k", acked, 20, 21)}, true, true},
		"a revocation of another shared token":            {ledger{made("revoke-kid", "kid l", acked, 20, 21)}, false, false},
		"a deletion":                                      {ledger{made("delete", "", acked, 20, 21)}, true, true},
		"a deletion that cannot be undone by creating it": {ledger{made("delete", "", acked, 20, 21), made("create", "v", acked, 30, 31)}, true, true},
	} {
		test.changes = append(test.changes, born)
		if must, may := test.changes.mustBeRefused(p, 100, all), test.changes.mayBeRefused(p, 100, all); must != test.must || may != test.may {
			t.Errorf("%s: it must be refused: %t, it may be: %t; want %t and %t", name, must, may, test.must, test.may)
		}
	}
}

// The same for settings: which version a node may show at the end.
func TestModelOfSettings(t *testing.T) {
	made := func(kind, target, parent, outcome string, at time.Duration) *change {
		return &change{kind: kind, messenger: "a", target: target, parent: parent, outcome: outcome, start: at, end: at + 1}
	}
	created := made("create", "v1", "", acked, 1)
	for name, test := range map[string]struct {
		changes ledger
		version string
		right   bool
	}{
		"the first version":                        {ledger{created}, "v1", true},
		"none after it was created":                {ledger{created}, "", false},
		"an acknowledged version":                  {ledger{created, made("put", "v2", "v1", acked, 5)}, "v2", true},
		"the one before an acknowledged version":   {ledger{created, made("put", "v2", "v1", acked, 5)}, "v1", false},
		"a version without a clear answer":         {ledger{created, made("put", "v2", "v1", unknown, 5)}, "v2", true},
		"the one before such a version":            {ledger{created, made("put", "v2", "v1", unknown, 5)}, "v1", true},
		"a version that was refused":               {ledger{created, made("put", "v2", "v1", refused, 5)}, "v2", false},
		"one of two children, acknowledged":        {ledger{created, made("put", "v2", "v1", acked, 5), made("put", "v3", "v1", unknown, 5)}, "v2", true},
		"the other child, not acknowledged":        {ledger{created, made("put", "v2", "v1", acked, 5), made("put", "v3", "v1", unknown, 5)}, "v3", false},
		"one of two children, both acknowledged":   {ledger{created, made("put", "v2", "v1", acked, 5), made("put", "v3", "v1", acked, 5)}, "v3", false},
		"none after a deletion":                    {ledger{created, made("delete", "", "", acked, 5)}, "", true},
		"one after a deletion":                     {ledger{created, made("delete", "", "", acked, 5)}, "v1", false},
		"none after a deletion that may have been": {ledger{created, made("delete", "", "", unknown, 5)}, "", true},
		"one that was created again":               {ledger{created, made("delete", "", "", acked, 5), made("create", "v2", "", acked, 8)}, "v2", true},
		"the old one, created again":               {ledger{created, made("delete", "", "", acked, 5), made("create", "v2", "", acked, 8)}, "v1", false},
	} {
		if complaint := test.changes.complainAboutSettings(test.version); (complaint == "") != test.right {
			t.Errorf("%s: got %q", name, complaint)
		}
	}
}
