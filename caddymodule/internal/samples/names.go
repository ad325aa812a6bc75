package samples

import "slices"

// What languages call an algorithm and its key. Templates ask for these by name.

// GoKey returns the type of the private key in Go.
func (c *Contract) GoKey() string {
	return map[string]string{"RS": "*rsa.PrivateKey", "PS": "*rsa.PrivateKey", "ES": "*ecdsa.PrivateKey", "Ed": "ed25519.PrivateKey"}[c.Family()]
}

// GoHash returns the function of Go that makes the hash.
func (c *Contract) GoHash() string {
	return map[string]string{"256": "sha256.New", "384": "sha512.New384", "512": "sha512.New"}[c.Bits()]
}

// GoSum returns the function of Go that hashes a text.
func (c *Contract) GoSum() string {
	return map[string]string{"256": "sha256.Sum256", "384": "sha512.Sum384", "512": "sha512.Sum512"}[c.Bits()]
}

// GoImports returns the packages that the program in Go imports.
func (c *Contract) GoImports() []string {
	list := []string{"encoding/base64", "encoding/json", "errors", "io", "log", "maps", "net/http", "os", "time"}
	switch c.Bits() {
	case "256":
		list = append(list, "crypto/sha256")
	case "384", "512":
		list = append(list, "crypto/sha512")
	}
	if c.Secret {
		list = append(list, "crypto/hmac")
	} else {
		list = append(list, "crypto/x509", "encoding/pem")
	}
	switch c.Family() {
	case "RS", "PS":
		list = append(list, "crypto", "crypto/rand", "crypto/rsa")
	case "ES":
		list = append(list, "crypto/ecdsa", "crypto/rand")
	case "Ed":
		list = append(list, "crypto/ed25519")
	}
	switch c.Encoding {
	case "":
	case "hex":
		list = append(list, "encoding/hex")
	default:
		list = append(list, "strings")
	}
	slices.Sort(list)
	return list
}

// JavaKey returns what Java calls the type of the key.
func (c *Contract) JavaKey() string {
	return map[string]string{"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "Ed25519"}[c.Family()]
}

// JavaSignature returns what Java calls the algorithm.
func (c *Contract) JavaSignature() string {
	switch c.Family() {
	case "RS":
		return "SHA" + c.Bits() + "withRSA"
	case "PS":
		return "RSASSA-PSS"
	case "ES":
		return "SHA" + c.Bits() + "withECDSAinP1363Format"
	}
	return "Ed25519"
}

// DotNetKey returns the type of the private key in .NET.
func (c *Contract) DotNetKey() string {
	if c.Family() == "ES" {
		return "ECDsa"
	}
	return "RSA"
}
