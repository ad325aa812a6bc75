package diagnose

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// time.time() in Python has fractions of a second, and so have the limits that a token exceeds. Whatever the dates of a token are, the
// first finding is about what the verifier refused, and the jti is named only if the verifier refused that.
func TestFindingsAboutTimesAgreeWithTheVerifier(t *testing.T) {
	v := secretVerifier(t, rawSecret, authn.Policy{MaxLifetime: time.Hour})
	wanted := map[authn.Code][]cause.Cause{
		authn.TokenExpired: {cause.TimePassed}, authn.TokenNotYetValid: {cause.TimeAhead}, authn.TokenLifetimeTooLong: {cause.LifetimeLong},
		authn.ClaimInvalid: {cause.TimeString, cause.TimeOther, cause.TimeMilliseconds, cause.TokenIDOther},
	}
	random := rand.New(rand.NewPCG(7, 7))
	seen := make(map[authn.Code]int)
	for range 3000 {
		text := hs(randomTimes(random))
		_, rej := v.Verify(t.Context(), text)
		if rej == nil {
			continue
		}
		causes := wanted[rej.Code]
		if causes == nil {
			t.Fatalf("refused with %s (%s)", rej.Code, rej.Reason)
		}
		seen[rej.Code]++
		payload := decodedObject(strings.Split(text, ".")[1])
		findings := Find(v, text, rej, nil)
		if len(findings) == 0 || !slices.ContainsFunc(causes, func(c cause.Cause) bool { return findings[0].Name == c.String() }) {
			t.Fatalf("%s: refused with %s (%s): got %+v", payload, rej.Code, rej.Reason, findings)
		}
		if got := Cause(v, text, rej); got.String() != findings[0].Name {
			t.Errorf("%s: in the log: got %s, want %s", payload, got, findings[0].Name)
		}
		isJTI := strings.HasPrefix(rej.Reason, "jti ")
		if named := slices.ContainsFunc(findings, func(f Finding) bool { return f.Name == cause.TokenIDOther.String() }); named != isJTI {
			t.Errorf("%s: refused with %s: got %+v", payload, rej.Reason, findings)
		}
	}
	for code := range wanted {
		if seen[code] < 20 {
			t.Errorf("only %d tokens were refused with %s", seen[code], code)
		}
	}
}

// randomTimes returns a payload whose dates are near the limits, mostly, and whose jti may be of any type.
func randomTimes(random *rand.Rand) string {
	now := float64(time.Now().Unix())
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	near := func(seconds float64) string { return fmt.Sprintf("%.2f", now+seconds+2*random.Float64()-1) }
	iat := pick(near(0), near(0), near(60), near(-3600))
	exp := pick(near(3600), near(3600), near(-60), near(10))
	switch random.IntN(12) {
	case 0:
		exp = pick(`"1795419749"`, "true", "1e400", "1795419749000", "-1795419749000")
	case 1:
		iat = pick(`"1795419749"`, "null", "1e15", "1795419749000")
	}
	jti := pick("", `,"jti":"abc"`, `,"jti":7`, `,"jti":{}`, `,"jti":1.5`, `,"jti":true`)
	return `{"identity":"mark","iat":` + iat + `,"exp":` + exp + jti + `}`
}

// The clock goes on between the verification and the diagnosis.
func TestTimeReachedDuringDiagnosisIsStillReported(t *testing.T) {
	v := secretVerifier(t, rawSecret, authn.Policy{})
	rej := &authn.Rejection{Code: authn.TokenNotYetValid}
	findings := Find(v, hs(fmt.Sprintf(`{"identity":"mark","jti":"abc","iat":%d}`, time.Now().Unix())), rej, nil)
	if len(findings) != 1 || findings[0].Name != cause.TimeAhead.String() {
		t.Errorf("got %+v, want %s", findings, cause.TimeAhead)
	}
}

// A time.Duration ends at 292 years, and a rounded number can be the same on both sides of a limit.
func TestTimeDifferencesAreNotCappedOrRoundedToTheLimit(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	at := func(date time.Time) string { return fmt.Sprintf("%d.%03d", date.Unix(), date.Nanosecond()/1e6) }
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, claims, want string
		code               authn.Code
	}{
		{"long ago", `"exp":` + at(first), "exp passed 2025 years ago", authn.TokenExpired},
		{"far ahead", `"iat":` + at(last), "iat is 7973 years ahead", authn.TokenNotYetValid},
		{"291 years ago", `"exp":` + at(now.AddDate(-291, 0, 0)), "exp passed 291 years ago", authn.TokenExpired},
		{"293 years ago", `"exp":` + at(now.AddDate(-293, 0, -1)), "exp passed 293 years ago", authn.TokenExpired},
		{"just expired", `"exp":` + at(now.Add(-61*time.Second)), "exp passed 1 minute 1 second ago", authn.TokenExpired},
		{"valid for ever", `"iat":` + at(now) + `,"exp":` + at(last), "it is valid for 7973 years, and max_lifetime is 1 hour", authn.TokenLifetimeTooLong},
		{"a month", `"iat":` + at(now) + `,"exp":` + at(now.Add(720*time.Hour)), "it is valid for 30 days, and max_lifetime is 1 hour", authn.TokenLifetimeTooLong},
		{"a second too long", `"iat":` + at(now) + `,"exp":` + at(now.Add(3601*time.Second)), "it is valid for 1 second more than max_lifetime, which is 1 hour", authn.TokenLifetimeTooLong},
		{"a moment too long", `"iat":` + at(now) + `,"exp":` + at(now.Add(3600010*time.Millisecond)), "it is valid for less than a second more than max_lifetime, which is 1 hour", authn.TokenLifetimeTooLong},
		{"an hour ahead", `"nbf":` + at(now.Add(time.Hour)), "nbf is 1 hour ahead", authn.TokenNotYetValid},
		{"a moment ahead of the skew", `"iat":` + at(now.Add(60990*time.Millisecond)), "iat is ahead by less than a second more than clock_skew (2026-11-27T12:01:00Z; it is 2026-11-27T12:00:00Z here), and clock_skew is 1 minute", authn.TokenNotYetValid},
	} {
		text := hs(`{"identity":"mark",` + tt.claims + `}`)
		f := &finder{text: text, now: now, policy: authn.Policy{ClockSkew: time.Minute, MaxLifetime: time.Hour}}
		f.find(&authn.Rejection{Code: tt.code})
		if len(f.findings) != 1 || !strings.Contains(f.findings[0].Cause, tt.want) {
			t.Errorf("%s: got %+v, want %s", tt.name, f.findings, tt.want)
		}
	}
}
