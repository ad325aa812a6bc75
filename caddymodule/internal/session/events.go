package session

// events follows a stream of server-sent events, as the HTML standard defines it, section 9.2.5. Its lines end in LF, CR
// or both; an empty line ends an event.
type events struct {
	inLine  bool // the last line has not ended
	comment bool // it is a comment, which belongs to no event
	inEvent bool // fields came that no empty line has ended
	afterCR bool // an LF now belongs to the line end before it
}

// boundary reports whether an event may begin here.
func (e *events) boundary() bool { return !e.inLine && !e.inEvent }

// follow takes note of p, up to the end of an event and no further, and returns how many bytes of p these are.
func (e *events) follow(p []byte) int {
	for i, c := range p {
		afterCR := e.afterCR
		e.afterCR = c == '\r'
		switch {
		case c == '\n' && afterCR:
		case c == '\n' || c == '\r':
			if e.line() {
				return i + 1
			}
		case !e.inLine:
			e.inLine, e.comment = true, c == ':'
		}
	}
	return len(p)
}

// line takes note of the end of a line, and reports whether this is the end of an event.
func (e *events) line() bool {
	if e.inLine {
		e.inLine = false
		e.inEvent = e.inEvent || !e.comment
		return e.boundary()
	}
	e.inEvent = false
	return true
}

// lastEvent returns the event that says ending.
func lastEvent(ending Ending) []byte {
	return []byte("event: auth\ndata: " + ending.Reason + "\n\n")
}
