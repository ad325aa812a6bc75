// Package admin is what operators and site owners can do with messengers, shared tokens and revocations, and the admin API
// for it. The commands and the control panel use it, too. Errors carry the status of an HTTP answer, and no secrets.
//
// It does not know how requests are verified or how changes reach other nodes; that is the registry's concern.
//
// Begin reading with [Service].
package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

// A Service has the operations on the messengers of a configuration. Changes take effect on this node before they return.
type Service struct {
	*registry.Registry
	Handlers func() []*auth.Handler // the routes that use these messengers
}

// NewService makes the service of a running app.
func NewService(a *messenger.App) *Service {
	return &Service{a.Registry(), func() []*auth.Handler {
		var handlers []*auth.Handler
		for _, r := range a.Routes() {
			if h, ok := r.(*auth.Handler); ok {
				handlers = append(handlers, h)
			}
		}
		return handlers
	}}
}

// A Description has the settings of a messenger, without secrets.
type Description struct {
	Name     string            `json:"name"`
	Source   string            `json:"source"`             // "config" or "stored"
	Revision string            `json:"revision,omitempty"` // of a stored messenger
	Created  *time.Time        `json:"created,omitempty"`
	Changed  *time.Time        `json:"changed,omitempty"`
	Method   string            `json:"method"`
	Mode     config.Mode       `json:"mode"`
	Settings *config.Messenger `json:"settings"`
	Warnings []string          `json:"warnings,omitempty"` // about settings that are valid but probably not intended
	State    *State            `json:"state,omitempty"`    // in lists that ask for it

	record   *ledger.Record // that it was made from, if it was
	unusable bool           // the messenger cannot be read or used
}

func describe(name, source string, settings *config.Messenger, r *ledger.Record) *Description {
	d := &Description{Name: name, Source: source, Method: settings.Method(), Mode: settings.Mode.Or(config.ModeRequired),
		Settings: settings.WithoutSecrets(), Warnings: settings.Warnings(), record: r}
	if source == registry.SourceStored {
		d.Warnings = append(d.Warnings, settings.CostWarnings()...)
	}
	if r != nil {
		d.Revision, d.Created, d.Changed = r.Revision, moment(r.Created), moment(r.Changed)
	}
	return d
}

// describeStored describes a stored messenger. It adds why the settings cannot be used, because another version or a restored
// backup may have written them.
func (s *Service) describeStored(name string, r *ledger.Record) *Description {
	d := describe(name, registry.SourceStored, r.Settings, r)
	err := r.Unusable
	if err == nil {
		err = r.Settings.CheckStored(s.Store.IsInternal)
	}
	if err != nil {
		d.unusable = true
		d.Warnings = append([]string{"this messenger cannot be used, and its requests are answered with keys_unavailable: " + err.Error()}, d.Warnings...)
	}
	return d
}

// Describe returns the messenger of that name, read from the storage itself if it is a stored one.
func (s *Service) Describe(ctx context.Context, name string) (*Description, error) {
	if s.Messengers[name] != nil {
		return s.describeConfigured(name), nil
	}
	r, err := s.StoredRecord(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.describeStored(name, r), nil
}

// accepted returns settings with the values of headers that stay as they are in before, or why they cannot be stored. before is nil
// for a new messenger.
func (s *Service) accepted(before *ledger.Record, settings *config.Messenger) (*config.Messenger, error) {
	if before != nil {
		settings = settings.KeepSecrets(before.Settings)
	}
	if err := settings.CheckSaved(s.Store.IsInternal); err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return settings, nil
}

// CheckPut returns why settings cannot replace those of a stored messenger, before anything is asked.
func (s *Service) CheckPut(ctx context.Context, name string, settings *config.Messenger) error {
	before, err := s.Record(ctx, name, ledger.KindStored)
	if err == nil {
		_, err = s.accepted(before, settings)
	}
	return err
}

// Put creates a stored messenger, or changes its settings. Its shared tokens stay, unless the validation method changes.
func (s *Service) Put(ctx context.Context, name string, settings *config.Messenger, c change.Condition, by registry.Actor) (d *Description, created bool, err error) {
	ctx = registry.WithActor(ctx, by)
	if err := s.checkStorable(name); err != nil {
		return nil, false, err
	}
	before, err := s.Record(ctx, name, ledger.KindStored)
	if err != nil {
		return nil, false, err
	}
	if settings, err = s.accepted(before, settings); err != nil {
		return nil, false, err
	}
	r, created, err := s.Registry.Put(ctx, name, settings, c)
	if err != nil {
		return nil, false, err
	}
	if before != nil {
		s.Store.ForgetUnused(ctx, before.Settings, r.Settings)
	}
	action := trail.MessengerChanged
	if created {
		action = trail.MessengerCreated
	}
	s.Audit(action, name, by, zap.String(trail.DetailMethod, settings.Method()), zap.String(trail.DetailMode, string(settings.Mode.Or(config.ModeRequired))))
	return describe(name, registry.SourceStored, r.Settings, r), created, nil
}

// Remove deletes a stored messenger with its shared tokens, and returns how many connections it closed on this node.
func (s *Service) Remove(ctx context.Context, name string, c change.Condition, by registry.Actor) (ended int, err error) {
	ended, unreadable, err := s.Registry.Remove(ctx, name, c)
	if err != nil {
		return 0, err
	}
	action := trail.MessengerDeleted
	if unreadable {
		action = trail.UnreadableMessengerDeleted
	}
	s.Audit(action, name, by, zap.Int(trail.DetailConnections, ended))
	return ended, nil
}

func (s *Service) checkStorable(name string) error {
	if err := config.CheckName(name); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("the name %w", err)}
	}
	if s.Messengers[name] != nil {
		return apierror.New(http.StatusConflict, "this messenger is in the configuration, which takes precedence over the store; change it there, or choose another name")
	}
	return nil
}

// UndoRevocation undoes a revocation: tokens that are otherwise valid are accepted again.
func (s *Service) UndoRevocation(ctx context.Context, name string, v revocation.Revocation, by registry.Actor) error {
	if err := s.Restore(registry.WithActor(ctx, by), name, v); err != nil {
		return err
	}
	s.Audit(trail.RevocationRemoved, name, by, zap.String(trail.DetailTarget, v.Kind()))
	return nil
}
