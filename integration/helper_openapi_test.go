package integration

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// An openAPI is the file that describes the admin API.
type openAPI struct {
	doc     any
	lock    sync.Mutex
	schemas map[string]*jsonschema.Schema
	tried   map[string]bool // "<method> <path> <status>" of the answers that were checked
}

var documented = sync.OnceValues(func() (*openAPI, error) {
	text, err := os.ReadFile("../caddymodule/docs/openapi.yaml")
	if err != nil {
		return nil, err
	}
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	return &openAPI{doc: doc, schemas: make(map[string]*jsonschema.Schema), tried: make(map[string]bool)}, err
})

// ofMessenger is the part of a path that is below one messenger.
var ofMessenger = regexp.MustCompile(`^messengers/[^/]+`)

// describes compares an answer of the admin API with what the file says of this request: every status that a running gateway
// gives in any test is in the file, and every body fits its schema.
func (d *openAPI) describes(t testing.TB, method, path string, a answer) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	if strings.Contains(path, "/..") {
		return // it is another path by the time it is answered
	}
	path = "/" + ofMessenger.ReplaceAllString(path, "messengers/{name}")
	node, pointer := d.step(d.doc, "", "paths")
	if node, pointer = d.step(node, pointer, path); node == nil {
		return // there is no such path, which is what the test is about
	}
	if node, pointer = d.step(node, pointer, strings.ToLower(method)); node == nil {
		if a.status != 405 {
			t.Errorf("%s %s is answered with %d, and the OpenAPI file does not have it", method, path, a.status)
		}
		return
	}
	for _, member := range []string{"responses", strconv.Itoa(a.status)} {
		if node, pointer = d.step(node, pointer, member); node == nil {
			t.Errorf("%s %s is answered with %d, which the OpenAPI file does not have: %s", method, path, a.status, a.body)
			return
		}
	}
	for _, member := range []string{"content", "application/json", "schema"} {
		if node, pointer = d.step(node, pointer, member); node == nil {
			t.Errorf("%s %s: the OpenAPI file has no schema for %d", method, path, a.status)
			return
		}
	}
	body, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
	if err != nil {
		t.Errorf("%s %s: the answer is not JSON: %v", method, path, err)
		return
	}
	if err := d.schema(t, pointer).Validate(body); err != nil {
		t.Errorf("%s %s: the answer does not fit the OpenAPI file: %v", method, path, err)
	}
	d.lock.Lock()
	defer d.lock.Unlock()
	d.tried[method+" "+path+" "+strconv.Itoa(a.status)] = true
}

// step returns a member of node, following a reference, and its pointer.
func (d *openAPI) step(node any, pointer, member string) (any, string) {
	members, _ := node.(map[string]any)
	next := members[member]
	pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(member)
	content, _ := next.(map[string]any)
	ref, ok := content["$ref"].(string)
	if !ok {
		return next, pointer
	}
	pointer = strings.TrimPrefix(ref, "#")
	next = d.doc
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		next = next.(map[string]any)[name]
	}
	return next, pointer
}

// schema compiles the schema at a pointer once.
func (d *openAPI) schema(t testing.TB, pointer string) *jsonschema.Schema {
	t.Helper()
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.schemas[pointer] == nil {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource("openapi.json", d.doc); err != nil {
			t.Fatal(err)
		}
		schema, err := compiler.Compile("openapi.json#" + pointer)
		if err != nil {
			t.Fatal(err)
		}
		d.schemas[pointer] = schema
	}
	return d.schemas[pointer]
}
