package integration

// expected are the names that the store's tests ask for and that operators see: metrics, log messages, health reasons,
// commands, paths and texts. They are in one place because they are the only words by which these tests know the store.
var expected = struct {
	// Metrics, without their prefix.
	writes, writeSeconds, waiting, lag, facts, lost string
	// The values of the label outcome of writes that are not known to have been made.
	notWritten []string
	// The message of the error line when the store has lost what this node has read.
	wentBackLog string
	// What messenger_health says of it.
	wentBackHealth string
	// The command and the path that write back what a node knows.
	repairCommand, repairPath string
	// What is said of a value that a newer version has written, in the log and by the admin API.
	newerVersion string
	// The member of the answer to a revocation that tells about clocks, and a word of what it says.
	warning, clockWord string
}{
	writes:       "store_writes_total",    // counter, by outcome
	writeSeconds: "store_write_seconds",   // histogram
	waiting:      "store_waiting",         // gauge: logouts that wait to be written
	lag:          "store_lag_seconds",     // gauge: since everything in memory was up to date
	facts:        "store_facts",           // gauge: facts in memory
	lost:         "store_lost_messengers", // gauge: messengers of which the storage has lost facts
	notWritten:   []string{"failed", "unknown"},

	wentBackLog:    "the store has lost facts",
	wentBackHealth: "lost_facts",

	repairCommand: "repair",
	repairPath:    "repair",

	newerVersion: "made by a newer version",

	warning:   "warning",
	clockWord: "clock",
}
