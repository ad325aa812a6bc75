//go:build race

package rsaverify

// raceEnabled says that pools drop what is put back, to find races: allocations cannot be counted.
const raceEnabled = true
