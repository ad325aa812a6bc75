package command

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/reseal"
)

// columns is the width of a terminal: what commands print fits into it, and the progress is one line that is refreshed.
const columns = 80

// progressEvery is how often a long command prints its progress, unless it refreshes the line of a terminal.
const progressEvery = 5 * time.Second

// A progress prints on standard error how far a command is.
type progress struct {
	doing    string
	terminal bool
	began    time.Time
	printed  time.Time
	first    int  // the position of the first step
	on       bool // a line is on the terminal that clear has to remove
}

func (p *progress) begin(doing string) {
	*p = progress{doing: doing, terminal: term.IsTerminal(int(os.Stderr.Fd())), began: time.Now(), printed: time.Now(), first: -1}
}

// show prints how far the command is. It prints without escaping, which would replace the carriage return, because the line has
// only fixed text and numbers.
func (p *progress) show(step, total reseal.Step) {
	if p.first < 0 { // the time left is estimated from the steps after the first one
		p.first, p.began = step.Position, time.Now()
	}
	if step.Done || !p.terminal && time.Since(p.printed) < progressEvery {
		return
	}
	p.printed = time.Now()
	line := progressLine(p.doing, step, total, time.Since(p.began), p.first)
	if p.terminal {
		p.on = true
		fmt.Fprintf(os.Stderr, "\r%-*s", columns-1, line)
		return
	}
	fmt.Fprintln(os.Stderr, line)
}

// progressLine returns the line, of less than columns characters.
func progressLine(doing string, step, total reseal.Step, took time.Duration, first int) string {
	line := fmt.Sprintf("%s: %d of %d (%d %%), %d values", doing, step.Position, step.Of, 100*step.Position/max(1, step.Of), total.Values)
	if done := step.Position - first; done > 0 && took > 3*time.Second {
		left := time.Duration(float64(took) * float64(step.Of-step.Position) / float64(done))
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return line[:min(len(line), columns-1)]
}

// clear removes the line, so that something else can be printed.
func (p *progress) clear() {
	if p.on {
		fmt.Fprint(os.Stderr, "\r"+strings.Repeat(" ", columns-1)+"\r")
		p.on = false
	}
}
