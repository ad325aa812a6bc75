// Package apierror makes the errors that the admin API answers with a status of HTTP. The commands and the panel show the same
// errors, so that each reads well alone, and has no secret.
//
// It does not know what was asked for, or what an error is about.
//
// Begin reading with [New].
package apierror

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// New makes an API error with an HTTP status.
func New(status int, message string) error {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// Storage makes an API error from err, which says why the storage cannot be read or written. An API error, and nil, stay as they
// are.
func Storage(err error) error {
	if err == nil || errors.As(err, new(caddy.APIError)) {
		return err
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, vault.ErrNotSealed) {
		status = http.StatusConflict
	}
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("the storage: %w", err)}
}

// Status returns the status of an API error, or 0 for any other.
func Status(err error) int {
	answer, _ := errors.AsType[caddy.APIError](err)
	return answer.HTTPStatus
}
