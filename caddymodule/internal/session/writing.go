package session

// Write writes bytes of the backend to the client.
func (c *Connection) Write(p []byte) (int, error) {
	n, err := c.write(p)
	c.deliver()
	return n, err
}

func (c *Connection) write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	switch {
	case c.dead.Load():
		return 0, errEnded
	case c.silent:
		return c.swallow(p)
	case c.cut.Load() && c.kind != WebSocket:
		c.silent = true
		return c.swallow(p)
	case c.endRequested.Load():
		c.writeLastMessage() // here, or at the next boundary within p
		if c.silent {
			return c.swallow(p)
		}
		n := c.follow(p)
		if m, err := c.out.Write(p[:n]); err != nil {
			c.silent = true
			if c.kind != WebSocket {
				return m, err
			}
			return len(p), nil // no error: reading from the client continues, so that the backend gets a close frame
		}
		c.writeLastMessage()
		if n == len(p) {
			return n, nil
		}
		m, err := c.swallow(p[n:])
		return n + m, err
	}
	for n := 0; n < len(p); {
		n += c.follow(p[n:])
	}
	return c.out.Write(p)
}

func (c *Connection) follow(p []byte) int {
	switch c.kind {
	case WebSocket:
		return c.frames.follow(p)
	case EventStream:
		return c.events.follow(p)
	}
	return len(p)
}

// swallow drops bytes of the backend after the end. An encoded stream still gets the bytes that complete it, so that its client can
// decode it to the end.
func (c *Connection) swallow(p []byte) (int, error) {
	switch c.kind {
	case WebSocket:
		return len(p), nil
	case EncodedEvents:
		return c.out.Write(p)
	}
	return 0, errEnded
}

// Flush sends the bytes that the writer below has buffered.
func (c *Connection) Flush() error {
	if c.flush == nil {
		return nil
	}
	err := c.flushUnlessEnded()
	c.deliver()
	return err
}

func (c *Connection) flushUnlessEnded() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.dead.Load() {
		return errEnded
	}
	return c.flush()
}
