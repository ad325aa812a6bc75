//go:build race

package authn

// raceEnabled says that the race detector slows Go code down, and assembly not: costs cannot be compared.
const raceEnabled = true
