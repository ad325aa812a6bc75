package authn

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEntryContainsTheWholeContact(t *testing.T) {
	now := time.Now()
	first, second := secretKey(t, "a"+testSecret, "a"), secretKey(t, "b"+testSecret, "b")
	v := verifierOf(t, Policy{}, first, second)
	selection := NewClaimSelection([]string{"absent", "empty", "name", "large"})
	for name, want := range map[string]Contact{
		"nothing but an identity": {Identity: "m", SignedBy: first, Claims: make([]Claim, 4)},
		"every field": {
			Identity: strings.Repeat("é", 127), TokenID: NewTokenID(strings.Repeat("j", 300)), SignedBy: second, Information: `{"name":"Mark","n":9007199254740993}`,
			Claims: []Claim{{}, {"", true}, {"Mark Twain", true}, {strings.Repeat("x", 3000), true}},
			Issued: time.Unix(1700000000, 250000001), Expires: now.Add(time.Hour), Until: now.Add(2 * time.Hour), since: now.Add(-time.Hour),
		},
		"dates far away": {
			Identity: "mark", SignedBy: second, Claims: []Claim{{"0", true}, {}, {}, {"[]", true}},
			Issued: time.Unix(-1, 999999999), Expires: time.Unix(year10000-1, 0), Until: time.Unix(year10000-1, 0), since: time.Unix(-62135596801, 0),
		},
	} {
		key := cacheKey{"token", v.generation, selection.number}
		entry := want.appendTo(nil, &key, v)
		got := recall(entry, &key, time.Now(), v, selection)
		if got == nil {
			t.Errorf("%s: the entry is not used", name)
			continue
		}
		for _, times := range [][2]*time.Time{{&got.Issued, &want.Issued}, {&got.Expires, &want.Expires}, {&got.Until, &want.Until}, {&got.since, &want.since}} {
			if !times[0].Equal(*times[1]) || times[0].IsZero() != times[1].IsZero() {
				t.Errorf("%s: got %v, want %v", name, *times[0], *times[1])
			}
			*times[0] = *times[1] // a time has several forms
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, want %+v", name, *got, want)
		}
	}
}

// Two tokens with the same hash share a place in the cache. Each gets its own contact, or none.
func TestEntryOfAnotherKeyIsNotUsed(t *testing.T) {
	v, selection := sharedTokenVerifier(t, Policy{}), NewClaimSelection([]string{"name"})
	token := signHS256(`{"identity":"mark","name":"Mark"}`)
	contact, rej := v.verify(context.Background(), token, selection, nil)
	if rej != nil {
		t.Fatal(rej)
	}
	entry := contact.appendTo(nil, &cacheKey{token, v.generation, selection.number}, v)
	if recall(entry, &cacheKey{token, v.generation, selection.number}, time.Now(), v, selection) == nil {
		t.Error("its own entry is not used")
	}
	for name, other := range map[string]cacheKey{
		"another token":     {token + "x", v.generation, selection.number},
		"another verifier":  {token, v.generation + 1, selection.number},
		"another selection": {token, v.generation, selection.number + 1},
	} {
		if recall(entry, &other, time.Now(), v, selection) != nil {
			t.Errorf("%s: its entry is taken", name)
		}
	}
}

// A verification decodes into memory that the next one reuses. A contact must not point into it, because it would
// change into another contact.
func TestContactDoesNotReferToReusedMemory(t *testing.T) {
	v := sharedTokenVerifier(t, Policy{})
	names := []string{"text", "escaped", "number", "list", "object", "flag"}
	const claims = `,"jti":"j%[1]d","text":"t%[1]d","escaped":"\u0065%[1]d","number":1%[1]d,"list":["l%[1]d"],"object":{"o":%[1]d},"flag":true}`
	for _, identity := range []string{`"mark%[1]d"`, `"m\u0061rk%[1]d"`, `12345%[1]d`} {
		var contacts []*Contact
		for i := range 20 {
			contact, rej := v.verify(context.Background(), signHS256(fmt.Sprintf(`{"identity":`+identity+claims, 10+i)), NewClaimSelection(names), nil)
			if rej != nil {
				t.Fatal(rej)
			}
			contacts = append(contacts, contact)
		}
		for i, c := range contacts {
			got := fmt.Sprint(c.Identity[len(c.Identity)-2:], c.TokenID == NewTokenID(fmt.Sprint("j", 10+i)), c.Claims)
			n := fmt.Sprint(10 + i)
			want := fmt.Sprint(n, true, []Claim{{"t" + n, true}, {"e" + n, true}, {"1" + n, true}, {`["l` + n + `"]`, true}, {`{"o":` + n + `}`, true}, {"true", true}})
			if got != want {
				t.Errorf("after other tokens contact %d is %s, want %s", i, got, want)
			}
		}
	}
}

func TestEverySelectionHasItsOwnNumber(t *testing.T) {
	numbers := make(map[uint32]string)
	for _, claims := range [][]string{nil, {""}, {"a"}, {"a", "b"}, {"b", "a"}, {"a b"}, {`a" "b`}, {"a", "", "b"}} {
		text := fmt.Sprintf("%q", claims)
		number := NewClaimSelection(claims).number
		if other, taken := numbers[number]; taken && other != text {
			t.Errorf("%s and %s are one selection", text, other)
		}
		numbers[number] = text
		if NewClaimSelection(claims).number != number {
			t.Errorf("%s is two selections", text)
		}
	}
}
