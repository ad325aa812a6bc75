package integration

// expected are the names that the store's tests ask for and that operators see: metrics, log messages, health reasons,
// commands, paths and texts. They are in one place because they are the only words by which these tests know the store.
var expected = struct {
	// Metrics, without their prefix.
	writeErrors, writeSeconds, queue, lag, facts, wentBack string
	// The message of the error line when the store has lost what this node has read.
	wentBackLog string
	// The reason of messenger_health for it.
	wentBackReason string
	// The command and the path that write back what a node knows, and the member of the answer that counts the facts.
	repairCommand, repairPath, repaired string
	// What is said of a value that a newer version has written, in the log and by the admin API.
	newerVersion string
	// The member of the answer to a revocation that tells about clocks, and a word of what it says.
	warnings, clockWord string
}{
	writeErrors:  "store_write_errors_total", // counter: writes that failed, or whose outcome is unknown
	writeSeconds: "store_write_seconds",      // histogram
	queue:        "store_queue",              // gauge: changes that wait to be written
	lag:          "store_lag_seconds",        // gauge: how late the last change of another node arrived
	facts:        "store_facts",              // gauge: facts in memory
	wentBack:     "store_went_back",          // gauge: 1 while facts are missing from the storage

	wentBackLog:    "the store went back",
	wentBackReason: "store_went_back",

	repairCommand: "repair",
	repairPath:    "repair",
	repaired:      "repaired",

	newerVersion: "made by a newer version",

	warnings:  "warnings",
	clockWord: "clock",
}
