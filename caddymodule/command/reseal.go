package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/reseal"
)

func resealCommand() *cobra.Command {
	r := resealing{client: new(client)}
	cmd := r.client.canBeOffline(r.client.jsonFlag(r.client.command(&cobra.Command{
		Use:   "reseal",
		Short: "Seals everything in the store with the first store key",
		Long: `
Reads all values of the store with any of the configured keys and writes them
again with the first one. To change keys, put the new one first, reload all
nodes, reseal, and remove the old one.

The gateway goes on meanwhile. You can interrupt it: what is done stays done,
and a second run finds it. --after goes on where an interrupted run says it was.
A value that cannot be opened is named, and blocks nothing.

With --discard-unreadable such values are replaced, for example because a store
key is lost. First it names each of them and what is lost with it, and changes
nothing; then it asks, or does it at once with --yes. A messenger of the
configuration loses all shared tokens, and all tokens of its contacts are
revoked, because it is not known which of them were; generate a new shared token
afterwards. A stored messenger is deleted. If nothing at all can be opened, the
configured key is probably a wrong one: then --everything is needed as well.

With --adopt-unsealed values that are not sealed are accepted too, such as those
from before the first key was configured. Anyone who could write to the storage
may have put something there: check it with list and show before you configure
the key.`,
	}, noMessenger, func(cmd *cobra.Command, _ string) error { return r.run(cmd) })))
	cmd.Flags().BoolVar(&r.request.Adopt, "adopt-unsealed", false, "Accept values that are not sealed")
	cmd.Flags().BoolVar(&r.request.Discard, "discard-unreadable", false, "Name the values that cannot be opened, and replace them after a confirmation")
	cmd.Flags().BoolVar(&r.request.Everything, "everything", false, "With --discard-unreadable: also if nothing at all can be opened")
	cmd.Flags().BoolVar(&r.yes, "yes", false, "With --discard-unreadable: do not ask")
	cmd.Flags().StringVar(&r.request.After, "after", "", "Go on after this `position`, as an interrupted run has printed it")
	return cmd
}

// A resealing is one run of the command: as many steps as it takes.
type resealing struct {
	*client
	request admin.ResealRequest
	yes     bool

	out, err io.Writer
	progress progress
	shown    int // values that were named
}

const (
	// maxShown is how many values are printed as text. With --json all values that the gateway names are printed.
	maxShown = 50

	// patience is how long a gateway that was reached before is asked again: it may be restarting, or its storage may be away.
	patience = 2 * time.Minute
)

func (r *resealing) run(cmd *cobra.Command) error {
	if (r.yes || r.request.Everything) && !r.request.Discard {
		return errors.New("--yes and --everything require --discard-unreadable")
	}
	r.out, r.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the command at once
	if r.request.Discard {
		return r.discard(ctx)
	}
	total, err := r.steps(ctx, r.request, "resealing")
	if err != nil {
		return err
	}
	if total.Unreadable > 0 {
		return fmt.Errorf("%s; %s resealed. What to do about them: caddy messenger reseal --discard-unreadable (it asks first)",
			values(total.Unreadable, "cannot be opened"), values(total.Resealed, ""))
	}
	return r.finish(total)
}

// discard names what cannot be opened, asks, and replaces it.
func (r *resealing) discard(ctx context.Context) error {
	check := r.request
	check.Check = true
	found, err := r.steps(ctx, check, "looking")
	if err != nil {
		return err
	}
	if found.Unreadable == 0 {
		return r.finish(found)
	}
	if found.Opened == 0 && !r.request.Everything {
		return admin.ErrNothingOpens
	}
	printable.Printf(r.err, "\n%s; %s can be opened. Nothing was changed yet.\n", values(found.Unreadable, "cannot be opened"), cause.Counted(found.Opened, "fact"))
	if !r.yes && !r.confirm(found.Unreadable) {
		return apierror.New(http.StatusConflict, "nothing was changed; to discard these values, add --yes")
	}
	r.shown = maxShown // the values were printed before the question
	total, err := r.steps(ctx, r.request, "discarding")
	if err != nil {
		return err
	}
	return r.finish(total)
}

// confirm asks the person at the terminal, if there is one.
func (r *resealing) confirm(count int) bool {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false
	}
	fmt.Fprintf(r.err, "To discard them for good, type their number (%d): ", count)
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	return strings.TrimSpace(line) == strconv.Itoa(count)
}

// finish prints what was done.
func (r *resealing) finish(total reseal.Step) error {
	if r.asJSON {
		total.Named = nil
		return json.NewEncoder(r.out).Encode(total)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s resealed\n", values(total.Resealed, ""))
	for _, line := range []struct {
		count int
		what  string
	}{
		{total.Discarded, "discarded"},
		{total.Unreadable - total.Discarded, "cannot be opened"},
		{total.Removed, "were obsolete and were removed"},
		{total.Foreign, "in the folder of the store were not written by the gateway, and are not changed"},
		{total.Left, "are the lists of nodes that ran a moment ago with another first key: reload all nodes before you remove that key"},
	} {
		if line.count > 0 && !(line.what == "cannot be opened" && total.Discarded == 0) {
			fmt.Fprintln(&b, values(line.count, line.what))
		}
	}
	if total.Discarded > 0 {
		b.WriteString("Next: tokens generate <messenger> for each messenger of the configuration that has\n" +
			"lost its shared tokens, and create for each that was deleted. Tokens of contacts\n" +
			"that are issued within clock_skew from now are refused, too. Those without iat\n" +
			"stay revoked until: revocations remove <messenger> --all\n")
	}
	_, err := io.WriteString(r.out, b.String())
	return err
}

// values says how many values there are, and what they are or do.
func values(count int, what string) string {
	if count == 1 {
		what = strings.NewReplacer("were", "was", "are the lists of nodes", "is the list of a node", "are", "is", "their", "its").Replace(what)
	}
	return strings.TrimSpace(cause.Counted(count, "value") + " " + what)
}

// steps takes steps until everything is done, and returns what they have done together.
func (r *resealing) steps(ctx context.Context, q admin.ResealRequest, doing string) (total reseal.Step, err error) {
	r.progress.begin(doing)
	defer r.progress.clear()
	failing := time.Time{} // when the current failures began; zero if the last step succeeded
	for {
		var step reseal.Step
		err := r.do(http.MethodPost, "reseal", "", q, &step)
		if err == nil && !step.Done && step.After == q.After {
			err = errNoProgress
		}
		switch {
		case err == nil:
			failing = time.Time{}
			add(&total, step)
			r.show(step.Named)
			r.progress.show(step, total)
			if step.Done {
				return total, nil
			}
			q.After = step.After
		case total.Values == 0 || !isTransient(err):
			return total, r.interrupted(err, q)
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > patience:
			return total, r.interrupted(err, q)
		}
		pause := time.Duration(0)
		if err != nil {
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return total, r.interrupted(errors.New("interrupted"), q)
		case <-time.After(pause):
		}
	}
}

var errNoProgress = errors.New("the gateway has made no progress with a step; check its log")

// interrupted adds to an error how to continue after it, if q is not the first step. A run that only looked has done nothing: one that
// went on from its position would discard nothing of what is before.
func (r *resealing) interrupted(err error, q admin.ResealRequest) error {
	if q.Check || q.After == r.request.After {
		return err
	}
	return fmt.Errorf("%w; the steps that were completed stay. To go on, add: --after %s", err, q.After)
}

// isTransient reports whether it may help to try again: the gateway is being restarted, its storage is away, or it is busy.
func isTransient(err error) bool {
	status := apierror.Status(err)
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || status == 0
}

func add(total *reseal.Step, step reseal.Step) {
	total.Values += step.Values
	total.Opened += step.Opened
	total.Resealed += step.Resealed
	total.Removed += step.Removed
	total.Left += step.Left
	total.Unreadable += step.Unreadable
	total.Discarded += step.Discarded
	total.Foreign += step.Foreign
	total.Position, total.Of, total.Done = step.Position, step.Of, step.Done
}

// show names values that cannot be opened, or are foreign.
func (r *resealing) show(named []reseal.Value) {
	if len(named) > 0 {
		r.progress.clear()
	}
	for _, v := range named {
		if r.asJSON {
			_ = json.NewEncoder(r.out).Encode(v) // if writing fails, writing the last line fails too
			continue
		}
		if r.shown++; r.shown == maxShown+1 && !v.Discarded {
			fmt.Fprintln(r.err, "There are more; --json names them.")
		}
		if r.shown > maxShown {
			continue
		}
		of := v.Kind
		if v.Messenger != "" {
			of = "messenger " + v.Messenger + ", " + v.Kind
		}
		printable.Printf(r.err, "%s: %s\n  %s\n", of, v.Key, v.Reason)
		if v.Lost != "" {
			printable.Printf(r.err, "  lost if it is discarded: %s\n", v.Lost)
		}
	}
}
