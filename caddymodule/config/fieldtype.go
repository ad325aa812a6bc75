package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A fieldType is what options of one type do with their field, wherever options are read, written or checked. Its functions are about
// the field that it was made for; those that do not apply are nil.
type fieldType struct {
	read     func(args []string) error                // sets the field to the arguments of a line; errors continue the option's name
	texts    func() []string                          // the values as people write them
	resolve  func(files LoadedFiles) error            // resolves placeholders; it does not change memory that copies of the messenger share
	duration func() (d time.Duration, example string) // the duration in the field, and what another one could be

	isList   bool     // several lines add up to its values
	isText   bool     // its one value has several lines
	isSecret bool     // its values may be secrets, and are not shown in a form again
	choices  []Choice // all values that it can have
}

// typeOf describes the field of an option. A new type gets its case here or in one of the two functions below, and nowhere else.
func typeOf(field any) fieldType {
	switch field := field.(type) {
	case *string:
		return fieldType{
			read:    func(args []string) (err error) { *field, err = oneValue(args); return err },
			texts:   func() []string { return given(*field != "", *field) },
			resolve: func(files LoadedFiles) (err error) { *field, err = files.Resolve(*field); return err },
		}
	case *[]string:
		return fieldType{isList: true,
			read:    func(args []string) error { return readList(field, args) },
			texts:   func() []string { return *field },
			resolve: func(files LoadedFiles) (err error) { *field, err = files.ResolveList(*field); return err },
		}
	case *int:
		return fieldType{read: func(args []string) (err error) { *field, err = readNumber(args); return err }}
	case **int:
		return fieldType{read: func(args []string) (err error) {
			*field = new(int)
			**field, err = readNumber(args)
			return err
		}}
	case *caddy.Duration:
		return fieldType{
			read:     func(args []string) (err error) { *field, err = readDuration(args); return err },
			texts:    func() []string { return given(*field != 0, DurationText(time.Duration(*field))) },
			duration: func() (time.Duration, string) { return time.Duration(*field), "1h" },
		}
	case **caddy.Duration:
		return fieldType{
			read: func(args []string) (err error) {
				*field = new(caddy.Duration)
				**field, err = readDuration(args)
				return err
			},
			texts:    func() []string { return given(*field != nil, DurationText(DurationOr(*field, 0))) },
			duration: func() (time.Duration, string) { return DurationOr(*field, 0), "1h" },
		}
	}
	return typeOfOwn(field)
}

// typeOfOwn is typeOf for the types of this package that are not blocks.
func typeOfOwn(field any) fieldType {
	switch field := field.(type) {
	case *Mode:
		return fieldType{choices: Modes,
			read:  func(args []string) (err error) { *field, err = readMode(args); return err },
			texts: func() []string { return []string{string(field.Or(ModeRequired))} },
		}
	case *Roots:
		return fieldType{isText: true,
			read: func(args []string) error {
				text, err := oneValue(args)
				*field = Roots(text)
				return err
			},
			texts: func() []string { return given(*field != "", string(*field)) },
		}
	case *[]RequestHeader:
		return fieldType{isList: true, isSecret: true,
			read: func(args []string) error {
				header, err := readHeader(args)
				if err == nil {
					*field = append(*field, header)
				}
				return err
			},
			texts: func() []string { return headerLines(*field) },
		}
	case **FailLimit:
		return fieldType{
			read: func(args []string) (err error) { *field, err = readFailLimit(args); return err },
			texts: func() []string {
				if *field == nil {
					return nil
				}
				return []string{(*field).String()}
			},
			duration: func() (d time.Duration, example string) {
				if *field != nil {
					d = time.Duration((*field).Window)
				}
				return d, "1m"
			},
		}
	}
	return typeOfMethod(field)
}

// typeOfMethod is typeOf for the blocks of validation methods.
func typeOfMethod(field any) fieldType {
	switch field := field.(type) {
	case *[]PublicKey:
		return fieldType{isList: true,
			read: func(args []string) error {
				key, err := readPublicKey(args)
				if err == nil {
					*field = append(*field, key)
				}
				return err
			},
			resolve: func(files LoadedFiles) error { return resolveKeys(field, files) },
		}
	case **JWKS:
		return fieldType{
			read: func(args []string) (err error) {
				next := new(JWKS) // **field is not changed, because copies of the messenger share it
				if *field != nil {
					*next = **field
				}
				next.URL, err = oneValue(args)
				*field = next
				return err
			},
			texts: func() []string {
				if *field == nil {
					return nil
				}
				return given((*field).URL != "", (*field).URL)
			},
			resolve: func(files LoadedFiles) (err error) {
				if *field != nil {
					(*field).URL, err = files.Resolve((*field).URL) // CopySettings has copied it
				}
				return err
			},
		}
	case **SharedToken:
		return fieldType{read: func(args []string) (err error) { *field, err = readSharedToken(args); return err }}
	case **Previous:
		return fieldType{
			read: func([]string) error {
				return errors.New("is a block; give it in a Caddyfile, in JSON, or with --keep-previous")
			},
			resolve: func(files LoadedFiles) error { return resolvePrevious(field, files) },
		}
	}
	return fieldType{read: func([]string) error { return errFieldType }}
}

// errFieldType is the error of an option whose type has no case in typeOf.
var errFieldType = errors.New("has a field of a type that is not described in config/fieldtype.go")

// given returns the text of a setting as a list, or none if the setting is not set.
func given(set bool, text string) []string {
	if !set {
		return nil
	}
	return []string{text}
}

func readList(field *[]string, args []string) error {
	if len(args) == 0 {
		return errors.New("takes at least one value")
	}
	for _, value := range args {
		if strings.HasSuffix(value, ",") || strings.Contains(value, ", ") {
			return commaError(value)
		}
	}
	*field = append(*field, args...)
	return nil
}

func resolveKeys(field *[]PublicKey, files LoadedFiles) (err error) {
	*field = slices.Clone(*field)
	for i := range *field {
		if (*field)[i].KeyID, err = files.Resolve((*field)[i].KeyID); err != nil {
			return fmt.Errorf("kid of key %d: %w", i+1, err)
		}
		if (*field)[i].Alg, err = files.Resolve((*field)[i].Alg); err != nil {
			return fmt.Errorf("alg of key %d: %w", i+1, err)
		}
	}
	return nil
}

func resolvePrevious(field **Previous, files LoadedFiles) error {
	if *field == nil {
		return nil
	}
	former, err := (*field).Settings().Resolved(files)
	if err == nil {
		*field = &Previous{Until: (*field).Until, PublicKey: former.PublicKey, JWKS: former.JWKS, SharedToken: former.SharedToken}
	}
	return err
}
