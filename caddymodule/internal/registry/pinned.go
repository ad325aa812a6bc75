package registry

// A stored messenger with open connections stays in memory, whatever names requests ask for in the meantime: its key set
// is followed on, and what is revoked, reset or deleted reaches the connections. It is pinned when a connection opens, and
// let go some time after the last one has closed. There are never more pinned messengers than verified contacts opened
// connections to.

// newEntry returns the entry of a messenger. Whoever makes it is its first user.
func newEntry(m *Messenger, r *Record) *storedEntry {
	e := &storedEntry{messenger: m, revision: r.Revision}
	e.version.Store(r.Version)
	e.users.Store(1)
	return e
}

// take adds a user, unless the last one has gone.
func (e *storedEntry) take() bool {
	for {
		n := e.users.Load()
		if n == 0 {
			return false
		}
		if e.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// drop takes a user away. The last one gives back what the messenger has.
func (e *storedEntry) drop() {
	if e.users.Add(-1) == 0 {
		e.messenger.cleanup()
	}
}

// known returns what is in memory of a name.
func (l *Store) known(name string) (*storedEntry, bool) {
	if e, ok := l.stored.GetIfPresent(name); ok {
		return e, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.pinned[name]
	return e, ok
}

// know makes e what is in memory of name. The caller holds the lock of name.
func (l *Store) know(name string, e *storedEntry) {
	if e.messenger != nil {
		e.users.Add(1) // of the cache, which may evict it at once
	}
	l.stored.Set(name, e) // first: whoever pins name from here on pins e
	l.mu.Lock()
	gone, before := l.pinned == nil, l.pinned[name]
	switch {
	case before == nil:
	case e.messenger == nil:
		delete(l.pinned, name)
	default:
		e.users.Add(1)
		l.pinned[name] = e
	}
	l.mu.Unlock()
	if gone {
		l.stored.Invalidate(name) // it was read for whoever was still at it, and Destruct does not come again
	}
	if before != nil {
		before.drop()
	}
	if e.messenger != nil {
		e.drop() // the maker's use
	}
}

// pin keeps the stored messenger of that name in memory as long as it has connections, of which the tracker knows one
// already. It reports false if the messenger is not in memory. A store that was given back pins nothing: the configuration
// that came after it looks through the connections that there were.
func (l *Store) pin(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pinned == nil || l.pinned[name] != nil {
		return true
	}
	e, ok := l.stored.GetIfPresent(name)
	if !ok || e.messenger == nil || !e.take() {
		return false
	}
	l.pinned[name] = e
	return true
}

// unpin lets those go that have no connections any more.
func (l *Store) unpin() {
	l.mu.Lock()
	idle := make(map[string]*storedEntry)
	if len(l.pinned) > 0 {
		open := Connections.Open() // under mu, so that no connection is added between this and the pin that it needs
		for name, e := range l.pinned {
			if open[name] == 0 {
				idle[name] = e
				delete(l.pinned, name)
			}
		}
	}
	l.mu.Unlock()
	for name, e := range idle {
		e.drop()
		if _, ok := l.stored.GetIfPresent(name); !ok {
			l.forgetUses(name)
		}
	}
}

// messengers returns the stored messengers that are in memory.
func (l *Store) messengers() []*Messenger {
	all := make(map[*Messenger]bool)
	for e := range l.stored.Values() {
		if e.messenger != nil {
			all[e.messenger] = true
		}
	}
	l.mu.Lock()
	for _, e := range l.pinned {
		all[e.messenger] = true
	}
	l.mu.Unlock()
	list := make([]*Messenger, 0, len(all))
	for m := range all {
		list = append(list, m)
	}
	return list
}
