package change

import (
	"context"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// WriteAndLook writes facts, and reads then what others have written meanwhile.
func WriteAndLook(ctx context.Context, n Node, j *ledger.Journal, incarnation string, urgent bool, facts ...*ledger.Fact) error {
	_, err := n.Write(ctx, j, incarnation, urgent, facts...)
	if err == nil {
		_, err = look(ctx, n, j, facts)
	}
	return apierror.Storage(err)
}

// look reads what others have written until now. written are facts that this change has written: a storage that does not list them,
// although it has confirmed them, may not list what others have written either, and nothing can be decided by its listing.
func look(ctx context.Context, n Node, j *ledger.Journal, written []*ledger.Fact) (ended int, err error) {
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

// CheckContest looks whether what was just written to an incarnation counts, before it is answered, and confirms the creation if that
// was not confirmed before it was written. written are the facts that were written. looked says that the storage was looked at after the journal knew of that: an earlier creation
// that is not decided is in the journal then.
func CheckContest(ctx context.Context, n Node, j *ledger.Journal, incarnation string, written []*ledger.Fact, confirmed, looked bool) error {
	if j.Kind != ledger.KindStored {
		return nil
	}
	if !confirmed || !looked {
		if _, err := look(ctx, n, j, written); err != nil {
			return apierror.Storage(err)
		}
	}
	if !confirmed && !j.IsConfirmed(incarnation) {
		confirmation := j.ConfirmCreation(incarnation, vault.Now())
		if confirmation == nil || hasLost(j, incarnation) {
			return apierror.Storage(vault.ErrUnknown)
		}
		if err := WriteAndLook(ctx, n, j, incarnation, true, confirmation); err != nil {
			return err
		}
	}
	return settleContest(ctx, n, j, incarnation)
}

// KeepToken looks again whether a node has reset the tokens at the same instant, without knowing of the one that was just made.
// It has not been shown yet, and outlives the reset.
func KeepToken(ctx context.Context, n Node, j *ledger.Journal, incarnation string, facts []*ledger.Fact) (ended int, err error) {
	for {
		more, err := look(ctx, n, j, facts)
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
