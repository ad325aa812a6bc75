package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What the import of a messenger has done, or would do.
const (
	ImportCreated   = "created"
	ImportChanged   = "changed"
	ImportUnchanged = "unchanged"
	ImportConflict  = "conflict" // something was not done; the notes say what, and why
)

// An Imported messenger is the result of an import. Notes are sentences for the operator, without secrets.
type Imported struct {
	Messenger string   `json:"messenger"`
	Result    string   `json:"result"`
	Notes     []string `json:"notes,omitempty"`
}

func (i *Imported) note(format string, args ...any) {
	i.Notes = append(i.Notes, fmt.Sprintf(format, args...))
}

func (i *Imported) conflict(format string, args ...any) {
	i.Result = ImportConflict
	i.note(format, args...)
}

// ImportOptions say how messengers are imported.
type ImportOptions struct {
	Replace bool `json:"replace"` // settings that differ, and messengers that were deleted
	DryRun  bool `json:"dry_run"` // only say what would be done
}

// Import adds to the store what a copy has of a messenger, and the store lacks. Nothing is undone or removed, except that Replace
// replaces settings. Importing again changes nothing. An error means that it is unknown what was done.
func (reg *Registry) Import(ctx context.Context, name string, c *ledger.Copy, o ImportOptions) (result Imported, err error) {
	result = Imported{Messenger: name, Result: ImportUnchanged}
	kind := ledger.KindStored
	if c.Settings == nil {
		kind = ledger.KindRing
	}
	switch configured := reg.Messengers[name] != nil; {
	case kind == ledger.KindRing && !configured:
		result.conflict("it is not in this configuration; add it there, and import again")
		return result, nil
	case kind == ledger.KindStored && configured:
		result.conflict("it is in the configuration here, which takes precedence over the store; rename one of the two")
		return result, nil
	case c.IsAhead(Now()):
		result.conflict("it has times that are more than an hour ahead of this node's clock; set the clocks (NTP), or import it when they have come")
		return result, nil
	}
	ctx, end, err := reg.Store.beginChange(ctx, name)
	if err != nil {
		return result, err
	}
	defer end()
	j, err := reg.Store.peek(ctx, name, kind)
	switch {
	case vault.IsUnreadable(err) && !j.IsUnfinished():
		result.conflict("what is stored under this name cannot be read (%v); repair or delete it, and import again", err)
		return result, nil
	case err != nil && !vault.IsUnreadable(err):
		return result, apierror.Storage(err)
	}
	if !o.DryRun {
		if err := reg.Store.backed(ctx, j); err != nil {
			return result, err
		}
	}
	if err = reg.importInto(ctx, j, c, o, &result); err != nil {
		if answer, ok := errors.AsType[caddy.APIError](err); ok && answer.HTTPStatus < http.StatusInternalServerError {
			result.conflict("%v", answer.Err)
			return result, nil
		}
		return result, apierror.Storage(err)
	}
	return result, nil
}

func (reg *Registry) importInto(ctx context.Context, j *ledger.Journal, c *ledger.Copy, o ImportOptions, result *Imported) error {
	lacking, err := j.Lacking(c, Now())
	if err != nil {
		result.conflict("%v", err)
		return nil
	}
	r := j.Record()
	if j.Kind == ledger.KindRing {
		return reg.importFacts(ctx, j, lacking, o, result)
	}
	if r != nil {
		c.Settings = c.Settings.KeepSecrets(r.Settings)
	}
	refused := c.Settings.CheckStored(reg.Store.IsInternal)
	if r == nil && refused != nil {
		result.conflict("its settings are not accepted here: %v", refused)
		return nil
	}
	if r == nil {
		return reg.importNew(ctx, j, c, lacking, o, result)
	}
	if errors.Is(r.Unusable, vault.ErrNewer) {
		result.conflict("the one that is stored was made by a newer version of the gateway; import with that version")
		return nil
	}
	differ := r.Unusable != nil || !sameSettings(r.Settings, c.Settings)
	if differ && !o.Replace && (c.Created == nil || !c.Created.Equal(r.Created)) {
		result.conflict("there is another messenger of this name, with other settings, and nothing of it was changed; rename one of the two, or import with --replace")
		return nil
	}
	if err := reg.importFacts(ctx, j, lacking, o, result); err != nil || !differ {
		return err
	}
	if !o.Replace {
		result.conflict("its settings differ (%s), and those that are stored were kept; import with --replace to replace them", strings.Join(differences(r.Settings, c.Settings), ", "))
		return nil
	}
	if refused != nil {
		result.conflict("its settings are not accepted here, and those that are stored were kept: %v", refused)
		return nil
	}
	result.note("settings are replaced: %s", strings.Join(differences(r.Settings, c.Settings), ", "))
	if len(r.Tokens) > 0 && !c.Settings.UsesRing(Now()) {
		result.note("shared tokens revoked, because the method is another one: %d", len(r.Tokens))
	}
	if result.Result == ImportUnchanged {
		result.Result = ImportChanged
	}
	if o.DryRun {
		return nil
	}
	_, _, err = reg.Store.put(ctx, j, change.Settings{New: c.Settings, Condition: change.Condition{Present: true, Confirm: change.AnyLoss}})
	return err
}

// importNew creates a messenger.
func (reg *Registry) importNew(ctx context.Context, j *ledger.Journal, c *ledger.Copy, lacking ledger.Difference, o ImportOptions, result *Imported) error {
	if at := j.DeletedAt(); !at.IsZero() && !o.Replace {
		result.conflict("it was deleted here on %s, and stays deleted; import with --replace to restore it", at.UTC().Format(time.RFC3339))
		return nil
	}
	result.Result = ImportCreated
	usesTokens := c.Settings.UsesRing(Now())
	switch n := active(c.Tokens); {
	case usesTokens && lacking.Added < n:
		result.note("it has %d of its %d shared tokens, because the text of the others is not in the file or was not opened, or they were revoked here; generate one: caddy messenger tokens generate %s", lacking.Added, n, j.Name)
	case usesTokens && n == 0:
		result.note("it has no shared token; generate one: caddy messenger tokens generate %s, or import the secret of its site again: caddy messenger tokens import %s", j.Name, j.Name)
	}
	if o.DryRun {
		return nil
	}
	before := lacking.Facts
	if !usesTokens {
		before = ledger.WithoutValid(before)
	}
	_, _, err := reg.Store.put(ctx, j, change.Settings{New: c.Settings, Condition: change.Condition{Absent: true}, Created: c.Created, Incarnation: lacking.Incarnation, Before: before})
	return err
}

// active returns how many of the tokens are neither revoked nor expired.
func active(tokens []ledger.CopiedToken) (n int) {
	for _, t := range tokens {
		if !t.Revoked && (t.End == nil || Now().Before(*t.End)) {
			n++
		}
	}
	return n
}

// importFacts adds revocations, and ends of tokens, to a messenger that there is.
func (reg *Registry) importFacts(ctx context.Context, j *ledger.Journal, lacking ledger.Difference, o ImportOptions, result *Imported) error {
	for _, kid := range lacking.NotAdded {
		if j.Kind == ledger.KindRing {
			result.conflict("the shared token %s was not added to a messenger that has, or had, shared tokens: it may have been revoked here; generate one: caddy messenger tokens generate %s", kid, j.Name)
			continue
		}
		result.conflict("the shared token %s was not added to a messenger that exists: it may have been revoked here; to take all of them from the file, delete the messenger and import it with --replace", kid)
	}
	if len(lacking.Facts) == 0 {
		return nil
	}
	if result.Result == ImportUnchanged {
		result.Result = ImportChanged
	}
	if lacking.Revocations > 0 {
		result.note("revocations added: %d", lacking.Revocations)
	}
	if lacking.Ends > 0 {
		result.note("shared tokens revoked, or expiring at the time in the file: %d", lacking.Ends)
	}
	if lacking.Added > 0 {
		result.note("shared tokens added: %d", lacking.Added)
	}
	if o.DryRun {
		return nil
	}
	_, err := change.Commit(ctx, reg.Store, j, change.Commitment{Incarnation: j.Current(), Groups: ledger.Batches(lacking.Facts)})
	return err
}

func settingsText(m *config.Messenger) []byte {
	text, _ := json.Marshal(m) // it was read from JSON
	return text
}

func sameSettings(a, b *config.Messenger) bool { return bytes.Equal(settingsText(a), settingsText(b)) }

// differences returns the names of the settings that differ, and none of their values.
func differences(a, b *config.Messenger) (names []string) {
	for _, s := range config.Settings {
		if one, other := s.Texts(a), s.Texts(b); strings.Join(one, "\x00") != strings.Join(other, "\x00") {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 && !slices.EqualFunc(a.Secrets(), b.Secrets(), slices.Equal) {
		names = append(names, "the values of jwks header")
	}
	if len(names) == 0 {
		names = append(names, "the keys")
	}
	return names
}
