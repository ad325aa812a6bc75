//go:build !race

package testsize

// Raced says that this is a build with the race detector: it slows Go code down, and assembly not, so that costs cannot be compared,
// and pools drop what is put back, so that allocations cannot be counted.
const Raced = false
