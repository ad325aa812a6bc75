package integration

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A change is one call that changes a messenger, as its caller knows it. Times are since the run began.
type change struct {
	kind       string // create, put, delete, generate, rotate, reset, revoke-kid, revoke, undo or logout
	messenger  string
	target     string // what is revoked, such as "jti 7", "identity mark", "all" or "kid x"; or the version that a put makes
	parent     string // the version that a put replaces
	node       int
	start, end time.Duration
	outcome    string // "" until the caller knows
	said       string // by the answer, for the report
}

// The outcomes. Without a clear answer the caller does not know whether the change was made, or will be.
const (
	acked   = "acknowledged"
	refused = "refused"
	unknown = "unknown"
)

// before reports whether c had taken effect, if at all, when other began. A change without a clear answer may take effect
// at any later time: its write can be late.
func (c *change) before(other *change) bool {
	return (c.outcome == acked || c.outcome == refused) && c.end < other.start
}

// possible reports whether c was, or may have been, made.
func (c *change) possible() bool { return c.outcome != refused }

// A pass is a token of a contact, signed with one shared token.
type pass struct {
	messenger, kid, jti, identity string
	token                         string
	born                          *change // made the shared token, and was acknowledged
}

// final reports whether c ends the pass for good: a later undo changes nothing.
func (p *pass) final(c *change) bool {
	return c.kind == "reset" || c.kind == "delete" || c.kind == "revoke-kid" && c.target == "kid "+p.kid
}

// targets reports whether c is about this contact's token, by jti, by identity, or with all others.
func (p *pass) targets(c *change) bool {
	return c.target == "all" || c.target == "jti "+p.jti || c.target == "identity "+p.identity
}

// A ledger is all that was done to one messenger, and what follows from it. A window says which acknowledged changes a node
// has to know at a time: its own, and those of others after a while.
type ledger []*change

type window func(c *change) bool

// some reports whether there is a change for which f holds.
func (m ledger) some(f func(c *change) bool) bool { return slices.ContainsFunc(m, f) }

// mustBeRefused reports whether an acknowledged change that the node has to know ends the pass, and nothing that was begun
// by now can have undone that.
func (m ledger) mustBeRefused(p *pass, now time.Duration, knows window) bool {
	return m.some(func(c *change) bool {
		if c.outcome != acked || !knows(c) {
			return false
		}
		switch {
		case p.final(c):
			return p.born.before(c)
		case (c.kind == "revoke" || c.kind == "logout") && p.targets(c):
			return !m.some(func(u *change) bool {
				undoes := u.kind == "undo" && u.target == c.target || u.kind == "delete" || u.kind == "create" // of another incarnation
				return undoes && u.possible() && u.start < now && !u.before(c)
			})
		}
		return false
	})
}

// mayBeRefused reports whether something that was begun by now can have ended the pass.
func (m ledger) mayBeRefused(p *pass, now time.Duration, knows window) bool {
	return m.some(func(c *change) bool {
		if !c.possible() || c.start > now {
			return false
		}
		switch {
		case p.final(c):
			return !c.before(p.born)
		case (c.kind == "revoke" || c.kind == "logout") && p.targets(c):
			return !m.some(func(u *change) bool {
				undone := u.kind == "undo" && u.target == c.target && knows(u) || u.kind == "delete" && u.before(p.born)
				return undone && u.outcome == acked && c.before(u)
			})
		}
		return false
	})
}

// complainAboutSettings compares the messenger as a node shows it at the end: version is that of its settings, "" without a
// messenger. Every acknowledged version is among the ancestors of the one that is there.
func (m ledger) complainAboutSettings(version string) string {
	makers := make(map[string]*change)
	for _, c := range m {
		if c.kind == "create" || c.kind == "put" {
			makers[c.target] = c
		}
	}
	ancestors := make(map[string]bool)
	for v := version; v != "" && !ancestors[v]; v = makers[v].parent {
		if makers[v] == nil || !makers[v].possible() {
			return "there is the version " + v + ", which was refused"
		}
		ancestors[v] = true
	}
	for _, c := range m {
		deleted := func(d *change) bool { return d.kind == "delete" && d.possible() && !d.before(c) }
		if (c.kind == "create" || c.kind == "put") && c.outcome == acked && !ancestors[c.target] && !m.some(deleted) {
			return fmt.Sprintf("the acknowledged version %s is lost; there is %q", c.target, version)
		}
		made := func(other *change) bool {
			return (other.kind == "create" || other.kind == "put") && other.possible() && !other.before(c)
		}
		if c.kind == "delete" && c.outcome == acked && version != "" && !m.some(made) {
			return "it was deleted, and there is the version " + version
		}
	}
	return ""
}

// tail writes the last changes that concern a pass, or the settings without one.
func (m ledger) tail(p *pass) string {
	var lines []string
	for _, c := range m {
		settings := c.kind == "create" || c.kind == "put" || c.kind == "delete"
		if p == nil && settings || p != nil && (p.final(c) || p.targets(c) || c == p.born || settings) {
			lines = append(lines, fmt.Sprintf("    %7.3f–%7.3f s, node %d: %-10s %-24s %-13s %s", c.start.Seconds(), c.end.Seconds(), c.node, c.kind, c.target, c.outcome, c.said))
		}
	}
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
