package upstream

import (
	"net/http"
)

// IsSafe reports whether the method is safe (RFC 9110 section 9.2.1).
func IsSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}
