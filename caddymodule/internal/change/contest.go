package change

import (
	"context"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// writeAndLook writes facts, and reads then what others have written meanwhile.
func writeAndLook(ctx context.Context, n Node, j *ledger.Journal, incarnation string, urgent bool, facts ...*ledger.Fact) error {
	_, err := n.Write(ctx, j, incarnation, urgent, facts...)
	if err == nil {
		_, err = Look(ctx, n, j, facts)
	}
	return apierror.Storage(err)
}

// Look reads what others have written until now. written are facts that this change has written: a storage that does not list them,
// although it has confirmed them, may not list what others have written either, and nothing can be decided by its listing.
func Look(ctx context.Context, n Node, j *ledger.Journal, written []*ledger.Fact) (ended int, err error) {
	ended, err = n.Again(ctx, j)
	if err == nil && j.LacksAny(written) {
		err = vault.ErrUnknown
	}
	return ended, err
}

// hasLost reports whether another node has created a messenger of the same name that goes first.
func hasLost(j *ledger.Journal, incarnation string) bool {
	lost, _ := j.Contest(incarnation)
	return lost
}

// settleContest looks whether another node has created a messenger of the same name that goes first, and waits for a moment as long
// as that is not decided.
func settleContest(ctx context.Context, n Node, j *ledger.Journal, incarnation string) error {
	for range 40 {
		switch lost, open := j.Contest(incarnation); {
		case lost:
			return errTwoWriters
		case !open:
			j.SetSettled(incarnation)
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
		if _, err := n.Again(ctx, j); err != nil {
			return apierror.Storage(err)
		}
	}
	return apierror.Storage(vault.ErrUnknown)
}

// A Commitment is a change of a messenger that is there.
type Commitment struct {
	Incarnation string
	Groups      [][]*ledger.Fact // each is written at a time, in their order
	Urgent      bool             // other nodes are told at once

	// Looked says that the storage was looked at after the journal knew of the creation: an earlier one that is not decided is in the journal
	// then.
	Looked bool

	// Between is called when all is written, and before it is decided whether that counts. It returns how many connections it closed.
	// nil does nothing.
	Between func(written []*ledger.Fact) (ended int, err error)
}

// Commit writes a change, and returns how many connections it closed on this node. When it returns nil, the change counts.
func Commit(ctx context.Context, n Node, j *ledger.Journal, c Commitment) (ended int, err error) {
	confirmed := j.IsConfirmed(c.Incarnation)
	written := slices.Concat(c.Groups...)
	for _, group := range c.Groups {
		more, err := n.Write(ctx, j, c.Incarnation, c.Urgent, group...)
		if err != nil {
			return 0, apierror.Storage(err)
		}
		ended += more
	}
	if c.Between != nil {
		more, err := c.Between(written)
		if err != nil {
			return 0, apierror.Storage(err)
		}
		ended += more
	}
	if err := checkContest(ctx, n, j, c.Incarnation, written, confirmed, c.Looked); err != nil {
		return 0, err
	}
	return ended, nil
}

// checkContest looks whether what was just written to an incarnation counts, before it is answered, and confirms the creation if that
// was not confirmed before it was written. For looked see Commitment.
func checkContest(ctx context.Context, n Node, j *ledger.Journal, incarnation string, written []*ledger.Fact, confirmed, looked bool) error {
	if j.Kind != ledger.KindStored {
		return nil
	}
	if !confirmed || !looked {
		if _, err := Look(ctx, n, j, written); err != nil {
			return apierror.Storage(err)
		}
	}
	if !confirmed && !j.IsConfirmed(incarnation) {
		confirmation := j.ConfirmCreation(incarnation, vault.Now())
		if confirmation == nil || hasLost(j, incarnation) {
			return apierror.Storage(vault.ErrUnknown)
		}
		if err := writeAndLook(ctx, n, j, incarnation, true, confirmation); err != nil {
			return err
		}
	}
	return settleContest(ctx, n, j, incarnation)
}

// KeepToken looks again whether a node has reset the tokens at the same instant, without knowing of the one that was just made.
// It has not been shown yet, and outlives the reset.
func KeepToken(ctx context.Context, n Node, j *ledger.Journal, incarnation string, facts []*ledger.Fact) (ended int, err error) {
	for {
		more, err := Look(ctx, n, j, facts)
		if err != nil {
			return 0, err
		}
		ended += more
		missed := j.MissedResets(incarnation, facts)
		if missed == nil {
			return ended, nil
		}
		if _, err := n.Write(ctx, j, incarnation, true, missed); err != nil {
			return 0, err
		}
	}
}
