package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// goOn lets every node make a change now that no fault lasts, and returns what is wrong if one does not. A node may refuse the
// first ones: it does not ask a storage again that has just failed.
func (h *history) goOn() (complaints []string) {
	for node, n := range h.c.nodes {
		c := &change{kind: "revoke", messenger: h.names[0], target: "jti of the end", node: node}
		deadline := time.Now().Add(changeLimit)
		got := h.change(c, func() (got outcome) {
			for {
				got = n.operator.call(changeLimit, http.MethodPost, "messengers/"+h.names[0]+"/revocations", map[string]any{"jti": "of the end"})
				if got.acknowledged() || got.refusedForSure() || time.Now().After(deadline) {
					return got
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		if !got.acknowledged() && got.status != http.StatusNotFound { // the messenger may be deleted
			complaints = append(complaints, fmt.Sprintf("after all faults node %d makes no change: %s", node, got))
		}
	}
	return complaints
}

// settle waits until every node has everything that was acknowledged, and all nodes agree. It returns what is wrong if that
// does not come about.
func (h *history) settle(limit time.Duration) []string {
	everything := func(*change) bool { return true }
	wrong := func() (complaints []string) {
		shown := make(map[string]string) // by name, of node 0
		for node, n := range h.c.nodes {
			complain := func(p *pass, name, what string) {
				complaints = append(complaints, fmt.Sprintf("at the end node %d: %s: %s\n%s", node, name, what, h.models[name].tail(p)))
			}
			listed := n.operator.call(patienceOfCallers, http.MethodGet, "messengers", nil)
			for _, name := range h.names {
				got, version, _ := h.read(node, name)
				if inList := strings.Contains(listed.body, `"name":"`+name+`"`); listed.acknowledged() && inList != (got.status == http.StatusOK) {
					complain(nil, name, fmt.Sprintf("it is in the list: %t, and asked for it is %d", inList, got.status))
				}
				if got.err != nil || got.status != http.StatusOK && got.status != http.StatusNotFound {
					complain(nil, name, got.String())
				} else if what := h.models[name].complainAboutSettings(version); what != "" {
					complain(nil, name, what)
				}
				all := version + n.shownLists(name)
				if node == 0 {
					shown[name] = all
				} else if all != shown[name] {
					complain(nil, name, "it differs from node 0:\n"+differing(all, shown[name])+"\nwhich shows\n"+differing(shown[name], all))
				}
				for _, p := range h.passes[name] {
					got := n.ask(patienceOfCallers, "/m/"+name+"/x", p.token)
					what := h.compare(p, got, h.now(), h.now(), everything)
					if got.err != nil || got.status == http.StatusServiceUnavailable && !h.models[name].mayBeRefused(p, h.now(), everything) {
						what = "a valid token is not decided on: " + p.name() + ": " + got.String()
					}
					if what != "" {
						complain(p, name, what)
					}
				}
			}
		}
		return complaints
	}
	for deadline := time.Now().Add(limit); ; {
		complaints := wrong()
		if len(complaints) == 0 || time.Now().After(deadline) {
			return complaints
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// shownLists are the shared tokens and the revocations that a node shows, in an order of their own. When a token was used
// last is not compared: each node knows of its own requests.
func (n *node) shownLists(name string) string {
	var lines []string
	tokens := n.operator.call(patienceOfCallers, http.MethodGet, "messengers/"+name+"/tokens", nil)
	var r ring
	if tokens.acknowledged() && json.Unmarshal([]byte(tokens.body), &r) == nil {
		for _, token := range r.Tokens {
			lines = append(lines, fmt.Sprint("\n", token.KID, " ", token.State, " ", token.End))
		}
	} else {
		lines = append(lines, "\n"+tokens.String())
	}
	revocations := n.operator.call(patienceOfCallers, http.MethodGet, "messengers/"+name+"/revocations", nil)
	var list []json.RawMessage
	if revocations.acknowledged() && json.Unmarshal([]byte(revocations.body), &list) == nil {
		for _, entry := range list {
			lines = append(lines, "\n"+string(entry))
		}
	} else {
		lines = append(lines, "\n"+revocations.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// differing are the lines of one text that are not in another.
func differing(text, other string) string {
	known := strings.Split(other, "\n")
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return slices.Contains(known, line) }), "\n")
}

// report writes the figures of the run.
func (h *history) report() {
	var lines []string
	for what, n := range h.counts {
		lines = append(lines, fmt.Sprintf("%6d %s", n, what))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[7:], b[7:]) })
	passes := 0
	for _, list := range h.passes {
		passes += len(list)
	}
	slices.Sort(h.took)
	at := func(part float64) time.Duration {
		if len(h.took) == 0 {
			return 0
		}
		return h.took[int(part*float64(len(h.took)-1))].Round(100 * time.Microsecond)
	}
	h.t.Logf("seed %d, %.1f s, %d tokens of contacts; acknowledged changes took %s at the median, %s at the 99th percentile, %s at most\n%s\nfaults:\n%s",
		h.seed, h.now().Seconds(), passes, at(.5), at(.99), at(1), strings.Join(lines, "\n"), strings.Join(h.log, "\n"))
}
