package config

import (
	"errors"
	"os"
)

// Env returns the value of the environment variable.
func (r Reference) Env() ([]byte, error) {
	value := os.Getenv(r.Name)
	if value == "" {
		return nil, errors.New("the environment variable is not set or empty")
	}
	return []byte(value), nil
}
