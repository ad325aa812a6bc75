package authn

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// What an attacker can make the gateway do with one token is bounded by the cost of a usual forged one: at most twice that for the
// whole request, which costs more than a verification of RS256 before the token is even looked at (see the benchmarks of the
// whole server). That leaves an invented header two verifications of RS256 by the standard library under HS256, and three under RS256.

// worstShapes are headers that make a strict parser work hard. The search starts from these.
var worstShapes = map[string]func() string{
	"many small objects with a name": func() string {
		return filledHeader(`"x":[`, `{"":0},`, `{"":0}]`)
	},
	"many names of all open objects, then small objects": func() string {
		return filledHeader(`"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"r":1,"s":1,"t":1,"u":1,"v":1,"w":1,"x":[`,
			`{"\u0000":0},`, `{"":0}]`)
	},
	"escaped names, as many as are compared one by one": func() string {
		var object strings.Builder
		for i := range strictjson.FewNames {
			fmt.Fprintf(&object, `,"\u00%02x":0`, i+32)
		}
		return filledHeader(`"x":[`, "{"+object.String()[1:]+"},", `{}]`)
	},
	"names that differ in their last character only": func() string {
		var object strings.Builder
		for i := range strictjson.FewNames {
			fmt.Fprintf(&object, `,"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa%c":0`, 'a'+i)
		}
		return filledHeader(`"x":[`, "{"+object.String()[1:]+"},", `{}]`)
	},
	"one large object": func() string {
		i := 0
		return filledHeaderBy(func() string { i++; return fmt.Sprintf(`"%x":0,`, i) }, `"x":0`)
	},
	"large objects": func() string {
		var object strings.Builder
		for i := range strictjson.FewNames + 2 {
			fmt.Fprintf(&object, `,"%c":0`, 'a'+i)
		}
		return filledHeader(`"x":[`, "{"+object.String()[1:]+"},", `{}]`)
	},
	"deep nesting": func() string {
		return filledHeader(`"x":[`, strings.Repeat(`{"":`, strictjson.MaxDepth-2)+"0"+strings.Repeat("}", strictjson.MaxDepth-2)+",", `{}]`)
	},
	"empty arrays":    func() string { return filledHeader(`"x":[`, `[],`, `[]]`) },
	"numbers":         func() string { return filledHeader(`"x":[`, `0,`, `0]`) },
	"white space":     func() string { return filledHeader(`"x":[`, "\t \r\n", `0]`) },
	"escapes":         func() string { return filledHeader(`"x":"`, `\u0061`, `"`) },
	"surrogates":      func() string { return filledHeader(`"x":"`, `\ud83d\ude00`, `"`) },
	"long kid":        func() string { return filledHeader(`"kid":"`, `\n`, `"`) },
	"UTF-8":           func() string { return filledHeader(`"x":"`, "\U0001F600", `"`) },
	"escaped strings": func() string { return filledHeader(`"x":[`, `"\n",`, `"\n"]`) },
}

const longestHeader = maxHeader / 4 * 3

func filledHeader(begin, part, end string) string {
	return filledHeaderBy(func() string {
		next := begin + part
		begin = ""
		return next
	}, end)
}

func filledHeaderBy(next func() string, end string) string {
	var b strings.Builder
	b.WriteString(`{"alg":"RS256",`)
	for {
		part := next()
		if b.Len()+len(part)+len(end)+1 > longestHeader {
			return b.String() + end + "}"
		}
		b.WriteString(part)
	}
}

// fragments are what the search puts into headers, in any number and order.
var fragments = []string{`{"":0},`, `{},`, `[],`, `[`, `]`, `{`, `}`, `"":`, `"a":`, `"\u0061":`, `"aaaaaaaaaaaaaaaa`, `"`, `\"`, `\u0000`, `\ud83d\ude00`,
	"\U0001F600", `0,`, `-1.5e+3,`, `true,`, `null,`, ` `, "\n", `"kid":"`, `,`, `:`, `{"a":1,"b":2,"c":3},`, `"x":[`}

func worstToken(alg, header string) string {
	header = strings.Replace(header, "RS256", alg, 1)
	signature := map[string]int{"HS256": 43, "RS256": 342}[alg]
	first := segment(header)
	payload := MaxToken - len(first) - 2 - signature
	for payload%4 == 1 {
		payload--
	}
	return first + "." + strings.Repeat("A", payload) + "." + strings.Repeat("A", signature)
}

// costOf is the least time in which v looks at token: what else the machine does adds to it, and takes nothing away.
func costOf(v *Verifier, token string, runs int) time.Duration {
	least := time.Duration(1<<63 - 1)
	for range runs {
		start := time.Now()
		_, _ = v.Verify(context.Background(), token)
		least = min(least, time.Since(start))
	}
	return least
}

// costOfVerification is costOf for a signature of RS256 and the standard library.
func costOfVerification(runs int) time.Duration {
	public, digest, signature := &privateKey().PublicKey, sha256.Sum256(nil), make([]byte, 256)
	signature[255] = 2
	least := time.Duration(1<<63 - 1)
	for range runs {
		start := time.Now()
		_ = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
		least = min(least, time.Since(start))
	}
	return least
}

// mutated changes header somewhere, and keeps it as long as a header may be.
func mutated(r *rand.Rand, header string) string {
	at := min(len(header), len(`{"alg":"RS256",`)+r.IntN(len(header)))
	var part string
	if r.IntN(3) == 0 {
		from := r.IntN(len(header))
		part = header[from:min(len(header), from+1+r.IntN(64))]
	} else {
		part = fragments[r.IntN(len(fragments))]
	}
	part = strings.Repeat(part, 1+r.IntN(1+r.IntN(400)))
	next := header[:at] + part
	if r.IntN(2) == 0 && len(next) < len(header) {
		next += header[len(next):] // in place of what is there
	} else {
		next += header[at:]
	}
	if len(next) > longestHeader {
		next = next[:longestHeader-1] + "}"
	}
	return next
}

func TestCostOfForgedHeadersIsBounded(t *testing.T) {
	if testsize.Raced {
		t.Skip("the race detector changes what code costs")
	}
	public := publicKey(t, &privateKey().PublicKey, "")
	rs, hs := verifierOf(t, Policy{}, public), sharedTokenVerifier(t, Policy{})
	soak := testsize.Soaking()
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var worst []string // of each shape
	for _, name := range slices.Sorted(maps.Keys(worstShapes)) {
		header := worstShapes[name]()
		if len(header) > longestHeader {
			t.Fatalf("%s: %d bytes", name, len(header))
		}
		cost := costOf(hs, worstToken("HS256", header), 20)
		deadline := time.Now().Add(5 * time.Second)
		for i := 0; i < 30 || soak && time.Now().Before(deadline); i++ {
			next := mutated(r, header)
			if c := costOf(hs, worstToken("HS256", next), 8); c > cost {
				if c = costOf(hs, worstToken("HS256", next), 20); c > cost { // and not by chance
					header, cost = next, c
				}
			}
		}
		worst = append(worst, header, worstShapes[name]()) // what was found may not get as far as to the signature
	}
	for _, tt := range []struct {
		alg   string
		v     *Verifier
		limit time.Duration // in verifications
	}{{"HS256", hs, 2}, {"RS256", rs, 3}} {
		var unit, dearest time.Duration
		for _, header := range worst {
			token := worstToken(tt.alg, header)
			var cost time.Duration
			for range 20 { // a busy machine gets another try
				unit, cost = costOfVerification(30), costOf(tt.v, token, 30)
				if cost <= tt.limit*unit {
					break
				}
			}
			if dearest = max(dearest, cost); cost > tt.limit*unit {
				t.Errorf("%s: %s, and a verification of RS256 costs %s, for the header %q", tt.alg, cost, unit, header)
			}
		}
		t.Logf("%s: %s for the worst token that was found, %s for a verification of RS256", tt.alg, dearest, unit)
	}
}

// The cost of a shape is its length: twice as long is at most twice as dear. Allocations can be counted exactly.
func TestAllocationsOfTheParserDoNotGrowWithTheText(t *testing.T) {
	for name, shape := range worstShapes {
		header := []byte(shape())
		if got := testing.AllocsPerRun(20, func() { _ = strictjson.Object(header, nil) }); got > 20 && !testsize.Raced { // it empties pools
			t.Errorf("%s: %.0f allocations for %d bytes", name, got, len(header))
		}
	}
}

func BenchmarkWorstToken(b *testing.B) {
	for name, shape := range worstShapes {
		for i, alg := range []string{"HS256", "RS256"} {
			t := benchTokens(b)[i]
			text := worstToken(alg, shape())
			b.Run(alg+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, rej := t.verifier.Verify(context.Background(), text); rej == nil {
						b.Fatal("accepted")
					}
				}
			})
		}
	}
}
