package config

import (
	"errors"
	"unicode"
	"unicode/utf8"
)

// CheckIdentityKey returns an error if claim cannot be an identity key. Any string of letters can; digits and _ - . : /
// are accepted too. The names of the time claims cannot: they do not hold an identity.
func CheckIdentityKey(claim string) error {
	if claim == "" {
		return errors.New("is empty; it is the name of the claim that holds the contact identity")
	}
	switch claim {
	case "exp", "nbf", "iat":
		return errors.New("is a time claim, which does not hold an identity")
	}
	if !utf8.ValidString(claim) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range claim {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !isIdentityKeySign(r) {
			return errors.New("has a character other than letters, digits and _ - . : /")
		}
	}
	return nil
}

func isIdentityKeySign(r rune) bool {
	switch r {
	case '_', '-', '.', ':', '/':
		return true
	}
	return false
}
