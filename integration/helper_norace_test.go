//go:build !race

package integration

// raced says that this is a build with the race detector.
const raced = false
