package admin

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/metrics"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/reseal"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// An object is one of the OpenAPI file.
type object = map[string]any

func openAPI(t *testing.T) object {
	t.Helper()
	text, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var parsed any
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(parsed)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return decoded.(object)
}

// at returns the object below a path of members, and follows a reference.
func at(doc, from object, path ...string) object {
	for _, member := range path {
		from, _ = from[member].(object)
	}
	if ref, ok := from["$ref"].(string); ok {
		return at(doc, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return from
}

// The page about the API has the same operations as the file.
func TestDocsHaveTheOperationsOfTheFile(t *testing.T) {
	text, err := os.ReadFile("../docs/runtime.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+) /messenger(/[^`]*)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed[row[1]+" "+strings.ReplaceAll(row[2], "<name>", "{name}")] = true
	}
	operations := make(map[string]bool)
	for path, methods := range at(nil, openAPI(t), "paths") {
		for method := range methods.(object) {
			if method != "parameters" {
				operations[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for operation := range operations {
		if !listed[operation] {
			t.Errorf("the page does not have %s", operation)
		}
	}
	for operation := range listed {
		if !operations[operation] {
			t.Errorf("the page has %s, and the file does not", operation)
		}
	}
}

// Programs are written and generated from the file: it has every path and method that the handlers have, and no other.
func TestOpenAPIHasThePathsOfTheHandlers(t *testing.T) {
	documented := at(nil, openAPI(t), "paths")
	for path := range documented {
		if routes()[strings.TrimPrefix(path, "/")] == nil {
			t.Errorf("the file has the path %s, and the handlers do not", path)
		}
	}
	for path, serve := range routes() {
		operations, ok := documented["/"+path].(object)
		if !ok {
			t.Errorf("the handlers have the path /%s, and the file does not", path)
			continue
		}
		var methods []string
		for member := range operations {
			if member != "parameters" {
				methods = append(methods, strings.ToUpper(member))
			}
		}
		slices.Sort(methods)
		w, s := httptest.NewRecorder(), &Service{Registry: &registry.Registry{Messengers: map[string]*registry.Messenger{"support": {}}}}
		if err := serve(s, w, httptest.NewRequest("BREW", AdminPath+path, nil), "support"); err == nil || w.Header().Get("Allow") == "" {
			t.Errorf("%s answers an unknown method with %v", path, err)
		}
		if got, want := w.Header().Get("Allow"), strings.Join(methods, ", "); got != want {
			t.Errorf("%s has the methods %s, and the file has %s", path, got, want)
		}
	}
}

// structs are the types of which the schemas speak.
var structs = map[string]reflect.Type{
	"Settings": reflect.TypeFor[config.Messenger](), "Description": reflect.TypeFor[Description](), "Keys": reflect.TypeFor[KeysInfo](),
	"Readiness": reflect.TypeFor[metrics.Readiness](), "Explanation": reflect.TypeFor[Explanation](), "History": reflect.TypeFor[History](),
	"TokenList": reflect.TypeFor[TokenList](),
	"NewToken":  reflect.TypeFor[ledger.NewToken](), "Ended": reflect.TypeFor[EndedHere](), "EndedConnections": reflect.TypeFor[EndedConnections](),
	"Revocation": reflect.TypeFor[revocation.Revocation](), "RevocationsAnswer": reflect.TypeFor[RevocationsAnswer](), "ExportPart": reflect.TypeFor[ExportPart](),
	"ImportAnswer": reflect.TypeFor[ImportAnswer](), "OpenConnections": reflect.TypeFor[OpenConnections](), "ResealStep": reflect.TypeFor[reseal.Step](),
}

// bodies are the types of the bodies that have no schema of their own.
var bodies = map[string]reflect.Type{
	"/export": reflect.TypeFor[ExportRequest](), "/import": reflect.TypeFor[ImportRequest](),
	"/connections/end": reflect.TypeFor[EndRequest](), "/reseal": reflect.TypeFor[ResealRequest](),
}

func TestOpenAPIHasTheMembersOfTheTypes(t *testing.T) {
	doc := openAPI(t)
	for name, typ := range structs {
		sameMembers(t, doc, at(doc, doc, "components", "schemas", name), typ, name)
	}
	body := func(path string) object {
		return at(doc, at(doc, doc, "paths", path, "post"), "requestBody", "content", "application/json", "schema")
	}
	for path, typ := range bodies {
		sameMembers(t, doc, body(path), typ, path)
	}
	for action, a := range tokenActions {
		schema := body("/messengers/{name}/tokens/" + action)
		if got, want := slices.Sorted(maps.Keys(at(doc, schema, "properties"))), slices.Sorted(slices.Values(a.members)); !slices.Equal(got, want) {
			t.Errorf("the body of tokens/%s has %q in the file, and takes %q", action, got, want)
		}
	}
}

// sameMembers compares a schema with a type, and what they contain.
func sameMembers(t *testing.T, doc, schema object, typ reflect.Type, place string) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice && schema["items"] != nil {
			schema = at(doc, schema, "items")
		}
		typ = typ.Elem()
	}
	properties := at(doc, schema, "properties")
	if typ.Kind() != reflect.Struct || properties == nil {
		return
	}
	var members []string
	for _, field := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		members = append(members, name)
		sameMembers(t, doc, at(doc, properties, name), field.Type, place+"."+name)
	}
	slices.Sort(members)
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, members) {
		t.Errorf("%s has the members %q in docs/openapi.yaml, and %q in the program", place, got, members)
	}
}

// People copy the examples, so that they have to fit the schemas beside them.
func TestOpenAPIExamplesFitTheirSchemas(t *testing.T) {
	doc := openAPI(t)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", any(doc)); err != nil {
		t.Fatal(err)
	}
	checked := 0
	var walk func(node any, pointer string)
	walk = func(node any, pointer string) {
		members, _ := node.(object)
		if list, ok := node.([]any); ok {
			for i, child := range list {
				walk(child, pointer+"/"+string(rune('0'+i)))
			}
		}
		if example, found := members["example"]; found && members["schema"] != nil {
			checked++
			schema, err := compiler.Compile("openapi.json#" + pointer + "/schema")
			if err != nil {
				t.Fatalf("%s: %v", pointer, err)
			}
			if err := schema.Validate(example); err != nil {
				t.Errorf("%s: %v", pointer, err)
			}
		}
		for name, child := range members {
			if name != "example" && name != "examples" {
				walk(child, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(name))
			}
		}
	}
	walk(doc, "")
	if checked < 30 {
		t.Errorf("%d examples were checked", checked)
	}
}

// Every operation says what it answers to a wrong method, and has a name of its own for generated clients.
func TestOpenAPIOperationsAreComplete(t *testing.T) {
	doc, ids := openAPI(t), make(map[string]bool)
	for path, operations := range at(nil, doc, "paths") {
		for method, operation := range operations.(object) {
			members, ok := operation.(object)
			if !ok {
				continue // parameters
			}
			id, _ := members["operationId"].(string)
			if id == "" || ids[id] || members["summary"] == nil || members["tags"] == nil {
				t.Errorf("%s %s: the operationId %q is missing or repeated, or a summary or tag is missing", method, path, id)
			}
			ids[id] = true
			if at(doc, members, "responses", "405") == nil {
				t.Errorf("%s %s: it does not say what it answers to another method (%d)", method, path, http.StatusMethodNotAllowed)
			}
		}
	}
}
