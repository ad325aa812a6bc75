package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/transfer"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// MaxImported is how many messengers one request imports, and MaxImportText how many bytes their lines have together.
	MaxImported   = 100
	MaxImportText = transfer.MaxLine

	// maxLargeBody bounds the bodies of imports, in bytes.
	maxLargeBody = MaxImportText + MaxAdminBody

	// exportTogether is how many messengers are read together for an export. A part ends when it has more than maxExportText bytes.
	exportTogether = 16
	maxExportText  = 1 << 20

	// maxExported is after how many names a part of an export ends.
	maxExported = 500

	// importTogether is how many messengers of one request are imported in parallel.
	importTogether = 16
)

// transferring bounds exports and imports: each reads or writes many values.
var transferring = make(slots, 2)

// An ExportRequest asks for a part of an export.
type ExportRequest struct {
	After string `json:"after,omitempty"` // Next of the part before
	Key   string `json:"key,omitempty"`   // seals the secrets; without it no secrets are exported
}

// An ExportPart is a part of an export.
type ExportPart struct {
	Lines  []json.RawMessage  `json:"lines"`
	Failed []registry.Failure `json:"failed,omitempty"` // what cannot be read
	Next   string             `json:"next,omitempty"`   // "" if this is the last part
}

// Export returns a part of an export. The first part also has the configured messengers about which the store has facts.
func (s *Service) Export(ctx context.Context, r ExportRequest, by registry.Actor) (*ExportPart, error) {
	var seal transfer.Sealer
	if r.Key != "" {
		var err error
		if seal, err = transfer.NewSealer(r.Key); err != nil {
			return nil, apierror.New(http.StatusBadRequest, err.Error())
		}
	}
	view, err := s.StoredNames(ctx)
	if err != nil {
		return nil, err
	}
	if transferring.take(ctx, listTime) != nil {
		return nil, errSlow
	}
	defer transferring.release()
	part := &ExportPart{Lines: []json.RawMessage{}}
	if r.After == "" {
		s.Audit(trail.MessengersExported, "", by, zap.Bool("secrets", seal != nil))
		if err := s.exportAll(ctx, part, s.Names(), ledger.KindRing, seal); err != nil {
			return nil, err
		}
		lost := slices.DeleteFunc(s.LostNames(), view.Has) // the storage was emptied, and this node still knows them
		if err := s.exportAll(ctx, part, lost, ledger.KindStored, seal); err != nil {
			return nil, err
		}
	}
	var names []string
	looked := 0
	for name := range view.Matching(r.After, "") {
		if len(names) == exportTogether {
			if err := s.exportAll(ctx, part, names, ledger.KindStored, seal); err != nil {
				return nil, err
			}
			if names = names[:0]; looked >= maxExported || part.size() > maxExportText {
				part.Next = r.After
				return part, nil
			}
		}
		names, r.After, looked = append(names, name), name, looked+1
	}
	return part, s.exportAll(ctx, part, names, ledger.KindStored, seal)
}

func (p *ExportPart) size() (size int) {
	for _, line := range p.Lines {
		size += len(line)
	}
	return size
}

// exportAll adds the lines of messengers. One that cannot be read is listed in part.Failed, and does not fail the export.
func (s *Service) exportAll(ctx context.Context, part *ExportPart, names []string, kind string, seal transfer.Sealer) error {
	lines, failures := make([]json.RawMessage, len(names)), make([]error, len(names))
	err := s.Peek(ctx, names, kind, func(i int, p registry.Peeked) {
		if failures[i] = p.Err; p.Err != nil {
			return
		}
		if p.Record != nil && errors.Is(p.Record.Unusable, vault.ErrNewer) {
			failures[i] = p.Record.Unusable // this version would lose what it does not know
			return
		}
		if c := p.Journal.Copy(registry.Now()); c != nil {
			lines[i], failures[i] = transfer.Encode(p.Name, c, seal)
		}
	})
	for i, name := range names {
		if failures[i] != nil {
			part.Failed = append(part.Failed, registry.Failure{Messenger: name, Error: failures[i].Error()})
		} else if lines[i] != nil {
			part.Lines = append(part.Lines, lines[i])
		}
	}
	return err
}

// An ImportRequest has lines of an export.
type ImportRequest struct {
	registry.ImportOptions
	Key   string            `json:"key,omitempty"` // opens the secrets; without it no secrets are imported
	Lines []json.RawMessage `json:"lines"`
}

// An ImportAnswer says what was done with each line, in their order.
type ImportAnswer struct {
	Results []registry.Imported `json:"results"`
}

// Import imports messengers, several at a time, and the lines about one messenger one after the other. Lines that are not valid are refused before anything is changed.
func (s *Service) Import(ctx context.Context, r ImportRequest, by registry.Actor) (*ImportAnswer, error) {
	if len(r.Lines) > MaxImported {
		return nil, apierror.New(http.StatusBadRequest, fmt.Sprintf("there are more than %d lines; send them in several requests", MaxImported))
	}
	var seal transfer.Sealer
	if r.Key != "" {
		var err error
		if seal, err = transfer.NewSealer(r.Key); err != nil {
			return nil, apierror.New(http.StatusBadRequest, err.Error())
		}
	}
	names, copies := make([]string, len(r.Lines)), make([]*ledger.Copy, len(r.Lines))
	for i, text := range r.Lines {
		line, err := transfer.Parse(text)
		if err == nil && line.End != nil {
			err = errors.New("is the last line of a file, and not a messenger")
		}
		if err == nil {
			names[i] = line.Messenger
			copies[i], err = line.Copy(seal)
		}
		if err != nil {
			return nil, apierror.New(http.StatusBadRequest, fmt.Sprintf("line %d: %v", i+1, err))
		}
	}
	if transferring.take(ctx, listTime) != nil {
		return nil, errSlow
	}
	defer transferring.release()
	answer := &ImportAnswer{make([]registry.Imported, len(r.Lines))}
	failures := make([]error, len(r.Lines))
	err := vault.EachOf(ctx, importTogether, byMessenger(names), func(_ int, lines []int) error {
		for _, i := range lines {
			if answer.Results[i], failures[i] = s.importOne(ctx, names[i], copies[i], r.ImportOptions, by); failures[i] != nil {
				return failures[i]
			}
		}
		return nil
	})
	for i, err := range failures {
		if err != nil {
			return nil, apierror.New(http.StatusServiceUnavailable, fmt.Sprintf("messenger %s: %v", names[i], err))
		}
	}
	if err != nil { // the request was given up
		return nil, apierror.Storage(err)
	}
	return answer, nil
}

// byMessenger returns the lines of each messenger, in their order: the settings of the last one stay, as if each were sent alone.
func byMessenger(names []string) [][]int {
	var groups [][]int
	at := make(map[string]int)
	for i, name := range names {
		group, known := at[name]
		if !known {
			group, at[name] = len(groups), len(groups)
			groups = append(groups, nil)
		}
		groups[group] = append(groups[group], i)
	}
	return groups
}

func (s *Service) importOne(ctx context.Context, name string, c *ledger.Copy, o registry.ImportOptions, by registry.Actor) (registry.Imported, error) {
	result, err := s.Registry.Import(ctx, name, c, o)
	if err == nil && !o.DryRun && result.Result != registry.ImportUnchanged {
		s.Audit(trail.MessengerImported, name, by, zap.String(trail.DetailResult, result.Result), zap.Strings("notes", result.Notes))
	}
	return result, err
}

// serveRevokeAll makes revocations of a list.
func (s *Service) serveRevokeAll(r *http.Request, name string) (any, error) {
	var body RevocationsRequest
	if err := readBody(r, maxLargeBody, &body); err != nil {
		return nil, err
	}
	if len(body.Revocations) > MaxRevoked {
		return nil, apierror.New(http.StatusBadRequest, fmt.Sprintf("there are more than %d revocations; send them in several requests", MaxRevoked))
	}
	for i := range body.Revocations {
		body.Revocations[i].DropRecorded()
	}
	added, ended, err := s.RevokeAll(r.Context(), name, body.Revocations, actorOf(r))
	return RevocationsAnswer{Revoked: added, Unchanged: len(body.Revocations) - added, Ended: ended}, err
}

// MaxRevoked is how many revocations one request has at most.
const MaxRevoked = 500

// A RevocationsRequest has revocations of one messenger.
type RevocationsRequest struct {
	Revocations []revocation.Revocation `json:"revocations"`
}

// A RevocationsAnswer says how many revocations of the request were new.
type RevocationsAnswer struct {
	Revoked   int `json:"revoked"`
	Unchanged int `json:"unchanged"` // they were revoked already, or have expired
	Ended     int `json:"connections_ended"`
}
