package panel

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A fieldError is something that is wrong with a field of a form.
type fieldError struct {
	Field string // the id of the element
	Text  string
}

// fieldErrors are what is wrong with a form, in the order of the page.
type fieldErrors []fieldError

// Of returns what is wrong with a field, or "".
func (list fieldErrors) Of(field string) string {
	for _, e := range list {
		if e.Field == field {
			return e.Text
		}
	}
	return ""
}

// refuse shows what is wrong with the form, at the top of its page and at the fields.
func (v *visit) refuse(page *settingsView, wrong []fieldError) error {
	slices.SortStableFunc(wrong, func(a, b fieldError) int { return fieldPlace(a.Field) - fieldPlace(b.Field) })
	page.Errors, page.Form.Wrong = wrong, wrong
	name := "messenger"
	if page.New {
		name = "new"
	}
	v.render(http.StatusUnprocessableEntity, name, page)
	return nil
}

// formError returns what err says about a field of the form. It returns false if err cannot be fixed in the form.
func formError(err error) (fieldError, bool) {
	answer, _ := errors.AsType[caddy.APIError](err)
	if answer.HTTPStatus != http.StatusBadRequest && answer.HTTPStatus != http.StatusConflict {
		return fieldError{}, false
	}
	text := answer.Err.Error()
	for _, f := range slices.Backward(formFields()) { // the options of a block before the block
		if rest, ok := strings.CutPrefix(text, f.option+" "); ok && f.option != "" {
			return fieldError{f.field, cause.Sentence(f.label + " " + rest)}, true
		}
	}
	return fieldError{"name", cause.Sentence(text)}, true
}

// fieldPlace orders fields as the page has them.
func fieldPlace(field string) int {
	for i, f := range formFields() {
		if strings.HasPrefix(field, strings.TrimSuffix(f.field, "-0")) {
			return i
		}
	}
	return -1
}
