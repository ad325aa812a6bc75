package session

// events finds where events end in a stream of server-sent events (HTML standard, section 9.2.5). Lines end in LF, CR or both;
// an empty line ends an event.
type events struct {
	inLine  bool // the last line has not ended
	comment bool // it is a comment, which belongs to no event
	inEvent bool // there were fields, and no empty line after them
	afterCR bool // an LF that follows belongs to the same line end
}

// boundary reports whether an event may begin here.
func (e *events) boundary() bool { return !e.inLine && !e.inEvent }

// follow reads p up to the end of the first event in it, and returns how many bytes of p these are.
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

// line is called at the end of a line, and reports whether that ends an event.
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
