// Package testsize says how much a test does: usually little enough to wait for, less where the race detector makes everything
// many times as slow, and in full with MESSENGER_SOAK=1 in the environment.
//
// It is for tests alone, and knows none of them. Begin reading with [Of].
package testsize

import "os"

// Soaking reports whether heavy tests run in full.
func Soaking() bool { return os.Getenv("MESSENGER_SOAK") == "1" }

// Of returns how many of something a test does: usual, a quarter of it with the race detector but at least one, and full if heavy
// tests run in full. It is for random searches and long simulations, which the race detector watches as well in a few turns.
func Of(usual, full int) int {
	switch {
	case Soaking():
		return full
	case Raced:
		return max(1, usual/4)
	}
	return usual
}
