package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A file may have been cut off, changed by hand, or made to do harm. What is wrong is said with the number of its line, and without
// anything that is in it.
func TestHostileImports(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	g.operator().put("acme", generated)
	file := lines(t, tr.export())
	line, end := file[len(file)-2], file[len(file)-1]
	secret := "mst_" + newSecret()
	search.secret(secret)
	change := func(old, new string) string {
		t.Helper()
		if !strings.Contains(line, old) {
			t.Fatalf("a line has no %s: %s", old, line)
		}
		return strings.Replace(line, old, new, 1)
	}
	revocation := func(text string) string { return change(`"settings"`, `"revocations":[`+text+`],"settings"`) }
	for name, c := range map[string]struct{ text, says string }{
		"cut off in a line":             {line[:len(line)/2], "line 1: it"},
		"cut off between lines":         {line + "\n", "no last line"},
		"more than at the end":          {line + "\n" + line + "\n" + end, "lines are missing, or were added"},
		"behind the end":                {line + "\n" + end + "\n" + line, "line 3: it comes after the end"},
		"of a newer version":            {change(`"format":1`, `"format":2`), "line 1: it was made by a newer version"},
		"format 0":                      {change(`"format":1`, `"format":0`), "has the format 0"},
		"without a format":              {change(`"format":1,`, ``), "has no format number"},
		"format as text":                {change(`"format":1`, `"format":"`+secret+`"`), "has no format number"},
		"a member twice":                {change(`"source"`, `"messenger":"bolt","source"`), "two members of the same name"},
		"a setting twice":               {change(`"identity_key"`, `"identity_key":"sub","identity_key"`), "two members of the same name"},
		"a member in two cases":         {change(`"source"`, `"Messenger":"bolt","source"`), `unknown member "Messenger"`},
		"a setting in two cases":        {change(`"identity_key"`, `"Identity_Key":"sub","identity_key"`), `unknown member "Identity_Key"`},
		"a setting that is null":        {change(`"identity_key"`, `"audience":null,"identity_key"`), `null for "audience"`},
		"a newer setting":               {change(`"identity_key"`, `"`+secret+`":true,"identity_key"`), "made by a newer version"},
		"an unknown member":             {change(`"source"`, `"`+secret+`":true,"source"`), "made by a newer version"},
		"too deep":                      {change(`"source"`, `"x":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`,"source"`), "nested too deeply"},
		"too long":                      {change(`"source"`, `"x":"`+strings.Repeat("x", 17<<20)+`","source"`), "line 1: it has more than"},
		"large settings":                {change(`"identity_key"`, `"audience":["`+strings.Repeat("x", 400<<10)+`"],"identity_key"`), "more than 384 KiB"},
		"a path as a name":              {change(`"acme"`, `"../../acme"`), "not allowed"},
		"dots as a name":                {change(`"acme"`, `".."`), "not allowed"},
		"a name of ours":                {change(`"acme"`, `"_writers"`), "not allowed"},
		"capitals":                      {change(`"acme"`, `"ACME"`), "not allowed"},
		"no settings":                   {`{"format":1,"messenger":"acme","source":"stored"}`, `needs "settings"`},
		"another source":                {change(`"stored"`, `"elsewhere"`), `other than "stored" and "config"`},
		"not JSON":                      {secret, "line 1: it"},
		"a list":                        {"[" + line + "]", "line 1: it"},
		"not UTF-8":                     {change(`"acme"`, "\"\xff\""), "not UTF-8"},
		"created before all time":       {change(`"created":"20`, `"created":"19`), "is not a time at which"},
		"a revocation of nothing":       {revocation(`{"id":"a","created":"2026-01-01T00:00:00Z"}`), "exactly one of"},
		"a revocation of two":           {revocation(`{"id":"a","created":"2026-01-01T00:00:00Z","all":true,"jti":"` + secret + `","issued_before":"2026-01-01T00:00:00Z"}`), "exactly one of"},
		"a revocation that reaches far": {revocation(`{"id":"a","created":"2026-01-01T00:00:00Z","all":true,"clock_skew":"9000h","issued_before":"2026-01-01T00:00:00Z"}`), "clock_skew"},
		"a revocation without a time":   {revocation(`{"id":"a","created":"2026-01-01T00:00:00Z","all":true}`), "revocation number 1"},
		"a token that is none":          {change(`"settings"`, `"tokens":[{"kid":"`+secret+`","fingerprint":"","created":"2026-01-01T00:00:00Z"}],"settings"`), "an empty text"},
	} {
		t.Run(name, func(t *testing.T) {
			input := write(t, "import.jsonl", []byte(c.text))
			ran := tr.run("", "import", "--replace", "--input", input)
			if ran.status != 1 || !strings.Contains(ran.err, c.says) || holds([]byte(ran.err+ran.out), secret) {
				t.Errorf("status %d, want 1 and %q\n%s%s", ran.status, c.says, ran.out, ran.err)
			}
		})
	}
	if names := g.operator().allListed("source=stored"); len(names) != 1 {
		t.Errorf("there are %v", names)
	}
	config := strings.Replace(line, `"acme"`, `"support"`, 1)
	input := write(t, "import.jsonl", []byte(config+"\n"+end))
	if ran := tr.imports(4, "1 conflict", input, "--replace"); !strings.Contains(ran.out, "it is in the configuration here") {
		t.Errorf("a messenger of the configuration: %s", ran.out)
	}
	ahead := strings.Replace(change(`"created":"20`, `"created":"99`), `"acme"`, `"ahead"`, 1)
	input = write(t, "import.jsonl", []byte(ahead+"\n"+strings.Replace(line, `"acme"`, `"bolt"`, 1)+"\n"+strings.Replace(end, `"messengers":1`, `"messengers":2`, 1)))
	if ran := tr.imports(4, "1 created, 0 changed, 0 unchanged, 1 conflict", input, "--replace"); !strings.Contains(ran.out, "ahead of this node's clock") {
		t.Errorf("a messenger from a clock that is ahead: %s", ran.out)
	}
	tr.want(1, "--merge, which keeps", "", "import", "--input", input)
	tr.want(1, "--input is missing", "", "import", "--merge")
	tr.want(1, "--secrets", "", "export", "--secrets", write(t, "short.key", []byte("c2hvcnQ=")))
}

// Lines about one messenger are imported in their order, as if each were sent alone: the settings of the last one stay. They were
// imported in parallel, and which of them came first was left to chance.
func TestLinesOfOneMessengerAreImportedInOrder(t *testing.T) {
	if !alone(t) {
		return
	}
	tr := newTraveller(t)
	g := tr.at(t, tr.folder)
	o := g.operator()
	line := func(name, audience string) json.RawMessage {
		return json.RawMessage(`{"format":1,"messenger":"` + name + `","source":"stored","settings":{"identity_key":"sub","shared_token":{},"audience":["` + audience + `"]}}`)
	}
	imported := func(replace bool, lines ...json.RawMessage) (results string) {
		t.Helper()
		var got struct{ Results []struct{ Result string } }
		decode(t, o.want(200, "POST", "import", map[string]any{"replace": replace, "lines": lines}).body, &got)
		for _, r := range got.Results {
			results += " " + r.Result
		}
		return results
	}
	for i := range 10 {
		name := fmt.Sprint("m", i)
		if got := imported(false, line(name, "first"), line("other", "x"), line(name, "second"), line(name, "first")); !strings.HasPrefix(got, " created ") || !strings.HasSuffix(got, " conflict unchanged") {
			t.Errorf("with merge:%s", got)
		}
		if got := imported(true, line(name, "second"), line(name, "third"), line("other", "x"), line(name, "fourth")); got != " changed changed unchanged changed" {
			t.Errorf("with replace:%s", got)
		}
		if shown := o.want(200, "GET", "messengers/"+name, nil); !strings.Contains(shown.body, `"fourth"`) {
			t.Errorf("the settings are not those of the last line: %s", shown.body)
		}
	}
}
