package config

import (
	"errors"
	"testing"
)

// A developer adds an option with a field of a new type, such as a bool. It would be written in a Caddyfile and lost on another way.
func TestEveryTypeOfFieldIsDescribed(t *testing.T) {
	for _, s := range Settings {
		if errors.Is(typeOf(s.kind()).read(nil), errFieldType) {
			t.Errorf("%s has a field of type %T: add a case for it to typeOf in config/fieldtype.go", s.Name, s.kind())
		}
	}
	if err := typeOf(new(bool)).read(nil); !errors.Is(err, errFieldType) {
		t.Errorf("a type that has no case: got %v, want %v", err, errFieldType)
	}
}
