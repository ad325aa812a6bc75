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
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

// What operators and site owners do with messengers and shared tokens. The admin API, the commands and the control panel
// all do it through here. Errors carry the status of an HTTP answer, and no secret.

// MaxListed is how many messengers one answer lists.
const MaxListed = 1000

// A Service is what operators may do with the messengers of a configuration.
type Service struct {
	*registry.Registry
	Handlers func() []*auth.Handler // the routes that use these messengers
}

func NewService(a *messenger.App) *Service {
	return ServiceOf(a.Registry(), func() []*auth.Handler {
		var handlers []*auth.Handler
		for _, r := range a.Routes() {
			if h, ok := r.(*auth.Handler); ok {
				handlers = append(handlers, h)
			}
		}
		return handlers
	})
}

func ServiceOf(r *registry.Registry, handlers func() []*auth.Handler) *Service {
	return &Service{Registry: r, Handlers: handlers}
}

// A Description is a messenger as its settings say, without any secret.
type Description struct {
	Name     string            `json:"name"`
	Source   string            `json:"source"`             // "config" or "stored"
	Revision string            `json:"revision,omitempty"` // of a stored messenger
	Created  *time.Time        `json:"created,omitempty"`
	Changed  *time.Time        `json:"changed,omitempty"`
	Method   string            `json:"method"`
	Mode     config.Mode       `json:"mode"`
	Settings *config.Messenger `json:"settings"`
	Warnings []string          `json:"warnings,omitempty"` // what works and is probably not meant
}

func describe(name, source string, settings *config.Messenger, r *registry.Record) *Description {
	d := &Description{Name: name, Source: source, Method: settings.Method(), Mode: settings.Mode.Or(config.ModeRequired),
		Settings: settings.CopySettings(), Warnings: settings.Warnings()}
	if source == registry.SourceStored {
		d.Warnings = append(d.Warnings, settings.CostWarnings()...)
	}
	if r != nil {
		d.Revision, d.Created, d.Changed = r.Revision, moment(r.Created), moment(r.Changed)
	}
	return d
}

// describeStored is describe for what is stored, which was not always written here: it says why that cannot be used.
func (a *Service) describeStored(name string, r *registry.Record) *Description {
	d := describe(name, registry.SourceStored, r.Settings, r)
	if err := r.Settings.CheckStored(a.Store.IsInternal); err != nil {
		d.Warnings = append([]string{"it cannot be used, and is answered with keys_unavailable: " + err.Error()}, d.Warnings...)
	}
	return d
}

// Describe returns the messenger of that name, read from the storage itself if it is a stored one.
func (a *Service) Describe(ctx context.Context, name string) (*Description, error) {
	if m := a.Messengers[name]; m != nil {
		return describe(name, registry.SourceConfig, m.Messenger, nil), nil
	}
	r, err := a.StoredRecord(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.describeStored(name, r), nil
}

// List returns the messengers whose names come after a given one, in order. Those of the configuration are all in the
// first answer.
func (a *Service) List(ctx context.Context, after string) ([]Description, error) {
	if err := listing.take(ctx); err != nil {
		return nil, err
	}
	defer listing.release()
	list := []Description{}
	if after == "" {
		for _, name := range a.Names() {
			list = append(list, *describe(name, registry.SourceConfig, a.Messengers[name].Messenger, nil))
		}
	}
	names, err := a.Store.Names(ctx, after, func(name string) bool { return config.CheckName(name) == nil })
	if err != nil {
		return nil, registry.StorageError(err)
	}
	full := len(list) + MaxListed
	for _, name := range names {
		if len(list) == full {
			break
		}
		if a.Messengers[name] != nil {
			continue // what is stored under a configured name is ignored, and the log says so
		}
		r, err := a.Store.Read(ctx, name, registry.KindStored)
		switch {
		case err == nil && r != nil && r.Settings != nil:
			list = append(list, *a.describeStored(name, r))
		case vault.IsUnreadable(err): // it must not hide the others
			list = append(list, Description{Name: name, Source: registry.SourceStored, Settings: new(config.Messenger),
				Warnings: []string{"it cannot be read, and is answered with keys_unavailable: " + err.Error()}})
		case err != nil:
			return nil, registry.StorageError(err)
		}
	}
	return list, nil
}

// Put creates a stored messenger, or changes its settings. Its shared tokens stay, unless its method becomes another.
func (a *Service) Put(ctx context.Context, name string, settings *config.Messenger, c registry.Condition, by registry.Actor) (d *Description, created bool, err error) {
	if err := a.checkStorable(name); err != nil {
		return nil, false, err
	}
	if err := settings.CheckStored(a.Store.IsInternal); err != nil {
		return nil, false, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	formerURL := ""
	r, err := a.Change(ctx, name, registry.KindStored, func(old *registry.Record) (*registry.Record, error) {
		if err := c.Check(old); err != nil {
			return nil, err
		}
		if old == nil {
			created = true
			old = new(registry.Record)
		} else if old.Settings != nil && old.Settings.JWKS != nil {
			formerURL = old.Settings.JWKS.URL
		}
		next := new(registry.Record)
		*next = *old // with all that settings are not
		next.Settings, next.Revision = settings.CopySettings(), ""
		if !settings.IsGenerated() {
			next.Tokens = nil
		}
		return next, nil
	})
	if err != nil {
		return nil, false, err
	}
	if formerURL != "" && (settings.JWKS == nil || settings.JWKS.URL != formerURL) {
		_ = a.Store.ForgetKeySet(ctx, formerURL) // another messenger's gateway writes it again
	}
	action := "messenger changed"
	if created {
		action = "messenger created"
	}
	a.Audit(action, name, by, zap.String("method", settings.Method()), zap.String("mode", string(settings.Mode.Or(config.ModeRequired))))
	return describe(name, registry.SourceStored, r.Settings, r), created, nil
}

// Remove deletes a stored messenger with its shared tokens.
func (a *Service) Remove(ctx context.Context, name string, c registry.Condition, by registry.Actor) error {
	_, err := a.removeAndEnd(ctx, name, c, by)
	return err
}

// removeAndEnd is remove, and returns how many connections of this node it has ended.
func (a *Service) removeAndEnd(ctx context.Context, name string, c registry.Condition, by registry.Actor) (ended int, err error) {
	if config.CheckName(name) != nil {
		return 0, registry.ErrNoMessenger
	}
	if _, err := a.Store.Read(ctx, name, registry.KindStored); vault.IsUnreadable(err) && c == (registry.Condition{}) {
		// Nobody can say what is there, and somebody wants it gone.
		if err := a.Store.Discard(ctx, name, registry.KindStored, func(*registry.Record) error {
			ended, err = a.Store.Changed(name, registry.KindStored, nil)
			return err
		}); err != nil {
			return 0, registry.StorageError(err)
		}
		a.Audit("unreadable messenger deleted", name, by, zap.Int("connections", ended))
		return ended, nil
	}
	url := ""
	_, ended, err = a.ChangeAndEnd(ctx, name, registry.KindStored, func(old *registry.Record) (*registry.Record, error) {
		if old == nil {
			if a.Messengers[name] != nil {
				return nil, registry.StatusError(http.StatusConflict, "this messenger is in the configuration; remove it there")
			}
			return nil, registry.ErrNoMessenger
		}
		if old.Settings != nil && old.Settings.JWKS != nil {
			url = old.Settings.JWKS.URL
		}
		return nil, c.Check(old)
	})
	if err != nil {
		return 0, err
	}
	if url != "" {
		_ = a.Store.ForgetKeySet(ctx, url)
	}
	a.Store.DropUses(ctx, name)
	a.Audit("messenger deleted", name, by, zap.Int("connections", ended))
	return ended, nil
}

func (a *Service) checkStorable(name string) error {
	if err := config.CheckName(name); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("the name %w", err)}
	}
	if a.Messengers[name] != nil {
		return registry.StatusError(http.StatusConflict, "this messenger is in the configuration, which goes before what is stored; change it there, or choose another name")
	}
	return nil
}

// reseal seals all values with the first store key.
func (a *Service) reseal(ctx context.Context, adopt bool, by registry.Actor) (int, error) {
	if !a.Store.Seal.Enabled() {
		return 0, registry.StatusError(http.StatusConflict, "no store key is configured; add store { key {file.…} } to the global option messenger { … }")
	}
	count, err := a.Store.Reseal(ctx, adopt, registry.IsStoreKey)
	a.Audit("store resealed", "", by, zap.Int("values", count), zap.Error(err))
	if err != nil {
		return count, registry.StorageError(err)
	}
	return count, nil
}
