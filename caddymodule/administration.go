package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// What operators and site owners do with messengers and shared tokens. The admin API, the commands and the control panel
// all do it through here. Errors carry the status of an HTTP answer, and no secret.

// maxListed is how many messengers one answer lists.
const maxListed = 1000

// Where a messenger is from.
const (
	sourceConfig = "config"
	sourceStored = "stored"
)

// auditLog is the logger of all changes: of those that people make, and, below it, of what the configuration says and of
// keys that change by themselves.
const auditLog = "messenger.audit"

// An actor is who makes a change, for the audit log.
type actor string

// A condition says on what a change may be made.
type condition struct {
	revision string // if not empty, what is there must have this revision
	absent   bool   // nothing must be there
	present  bool   // something must be there
}

func (c condition) check(old *record) error {
	switch {
	case c.absent && old != nil:
		return adminError(http.StatusPreconditionFailed, "there is a stored messenger of this name already")
	case c.present && old == nil:
		return adminError(http.StatusPreconditionFailed, "there is nothing yet that could be changed")
	case c.revision != "" && (old == nil || old.Revision != c.revision):
		return adminError(http.StatusPreconditionFailed, "it was changed meanwhile; look at it again, and repeat the change if it still makes sense")
	}
	return nil
}

// A service is what operators may do with the messengers of a configuration.
type service struct {
	*registry
	handlers func() []*Handler // the routes that use these messengers
}

func newService(a *App) *service {
	return serviceOf(a.Registry(), func() []*Handler {
		var handlers []*Handler
		for _, r := range a.Routes() {
			if h, ok := r.(*Handler); ok {
				handlers = append(handlers, h)
			}
		}
		return handlers
	})
}

func serviceOf(r *registry, handlers func() []*Handler) *service {
	return &service{registry: r, handlers: handlers}
}

// A describedMessenger is a messenger as its settings say, without any secret.
type describedMessenger struct {
	Name     string     `json:"name"`
	Source   string     `json:"source"`             // "config" or "stored"
	Revision string     `json:"revision,omitempty"` // of a stored messenger
	Created  *time.Time `json:"created,omitempty"`
	Changed  *time.Time `json:"changed,omitempty"`
	Method   string     `json:"method"`
	Mode     Mode       `json:"mode"`
	Settings *Messenger `json:"settings"`
	Warnings []string   `json:"warnings,omitempty"` // what works and is probably not meant
}

func describe(name, source string, settings *Messenger, r *record) *describedMessenger {
	d := &describedMessenger{Name: name, Source: source, Method: settings.method(), Mode: settings.Mode.or(ModeRequired),
		Settings: settings.copySettings(), Warnings: settings.warnings()}
	if source == sourceStored {
		d.Warnings = append(d.Warnings, settings.costWarnings()...)
	}
	if r != nil {
		d.Revision, d.Created, d.Changed = r.Revision, moment(r.Created), moment(r.Changed)
	}
	return d
}

// describeStored is describe for what is stored, which was not always written here: it says why that cannot be used.
func (a *service) describeStored(name string, r *record) *describedMessenger {
	d := describe(name, sourceStored, r.Settings, r)
	if err := r.Settings.checkStored(a.live.isInternal); err != nil {
		d.Warnings = append([]string{"it cannot be used, and is answered with keys_unavailable: " + err.Error()}, d.Warnings...)
	}
	return d
}

// describe returns the messenger of that name, read from the storage itself if it is a stored one.
func (a *service) describe(ctx context.Context, name string) (*describedMessenger, error) {
	if m := a.Messengers[name]; m != nil {
		return describe(name, sourceConfig, m.Messenger, nil), nil
	}
	r, err := a.storedRecord(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.describeStored(name, r), nil
}

func (a *registry) storedRecord(ctx context.Context, name string) (*record, error) {
	if checkMessengerName(name) != nil {
		return nil, errNoMessenger
	}
	r, err := a.live.read(ctx, name, kindStored)
	if err != nil {
		return nil, storageError(err)
	}
	if r == nil || r.Settings == nil {
		return nil, errNoMessenger
	}
	return r, nil
}

var errNoMessenger = adminError(http.StatusNotFound, "there is no messenger of this name, neither configured nor stored; list shows those that there are")

// storageError answers for a storage that cannot be read or written.
func storageError(err error) error {
	if errors.As(err, new(caddy.APIError)) {
		return err
	}
	status := http.StatusServiceUnavailable
	if errors.Is(err, errNotSealed) {
		status = http.StatusConflict
	}
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf("the storage: %w", err)}
}

// list returns the messengers whose names come after a given one, in order. Those of the configuration are all in the
// first answer.
func (a *service) list(ctx context.Context, after string) ([]describedMessenger, error) {
	if err := listing.take(ctx); err != nil {
		return nil, err
	}
	defer listing.release()
	list := []describedMessenger{}
	if after == "" {
		for _, name := range a.names() {
			list = append(list, *describe(name, sourceConfig, a.Messengers[name].Messenger, nil))
		}
	}
	names, err := a.live.names(ctx, after, func(name string) bool { return checkMessengerName(name) == nil })
	if err != nil {
		return nil, storageError(err)
	}
	full := len(list) + maxListed
	for _, name := range names {
		if len(list) == full {
			break
		}
		if a.Messengers[name] != nil {
			continue // what is stored under a configured name is ignored, and the log says so
		}
		r, err := a.live.read(ctx, name, kindStored)
		switch {
		case err == nil && r != nil && r.Settings != nil:
			list = append(list, *a.describeStored(name, r))
		case isUnreadable(err): // it must not hide the others
			list = append(list, describedMessenger{Name: name, Source: sourceStored, Settings: new(Messenger),
				Warnings: []string{"it cannot be read, and is answered with keys_unavailable: " + err.Error()}})
		case err != nil:
			return nil, storageError(err)
		}
	}
	return list, nil
}

// put creates a stored messenger, or changes its settings. Its shared tokens stay, unless its method becomes another.
func (a *service) put(ctx context.Context, name string, settings *Messenger, c condition, by actor) (d *describedMessenger, created bool, err error) {
	if err := a.checkStorable(name); err != nil {
		return nil, false, err
	}
	if err := settings.checkStored(a.live.isInternal); err != nil {
		return nil, false, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	formerURL := ""
	r, err := a.change(ctx, name, kindStored, func(old *record) (*record, error) {
		if err := c.check(old); err != nil {
			return nil, err
		}
		if old == nil {
			created = true
			old = new(record)
		} else if old.Settings != nil && old.Settings.JWKS != nil {
			formerURL = old.Settings.JWKS.URL
		}
		next := new(record)
		*next = *old // with all that settings are not
		next.Settings, next.Revision = settings.copySettings(), ""
		if !settings.isGenerated() {
			next.Tokens = nil
		}
		return next, nil
	})
	if err != nil {
		return nil, false, err
	}
	if formerURL != "" && (settings.JWKS == nil || settings.JWKS.URL != formerURL) {
		_ = a.live.forgetKeySet(ctx, formerURL) // another messenger's gateway writes it again
	}
	action := "messenger changed"
	if created {
		action = "messenger created"
	}
	a.audit(action, name, by, zap.String("method", settings.method()), zap.String("mode", string(settings.Mode.or(ModeRequired))))
	return describe(name, sourceStored, r.Settings, r), created, nil
}

// remove deletes a stored messenger with its shared tokens.
func (a *service) remove(ctx context.Context, name string, c condition, by actor) error {
	_, err := a.removeAndEnd(ctx, name, c, by)
	return err
}

// removeAndEnd is remove, and returns how many connections of this node it has ended.
func (a *service) removeAndEnd(ctx context.Context, name string, c condition, by actor) (ended int, err error) {
	if checkMessengerName(name) != nil {
		return 0, errNoMessenger
	}
	if _, err := a.live.read(ctx, name, kindStored); isUnreadable(err) && c == (condition{}) {
		// Nobody can say what is there, and somebody wants it gone.
		if err := a.live.discard(ctx, name, kindStored, func(*record) error {
			ended, err = a.live.changed(name, kindStored, nil)
			return err
		}); err != nil {
			return 0, storageError(err)
		}
		a.audit("unreadable messenger deleted", name, by, zap.Int("connections", ended))
		return ended, nil
	}
	url := ""
	_, ended, err = a.changeAndEnd(ctx, name, kindStored, func(old *record) (*record, error) {
		if old == nil {
			if a.Messengers[name] != nil {
				return nil, adminError(http.StatusConflict, "this messenger is in the configuration; remove it there")
			}
			return nil, errNoMessenger
		}
		if old.Settings != nil && old.Settings.JWKS != nil {
			url = old.Settings.JWKS.URL
		}
		return nil, c.check(old)
	})
	if err != nil {
		return 0, err
	}
	if url != "" {
		_ = a.live.forgetKeySet(ctx, url)
	}
	a.live.dropUses(ctx, name)
	a.audit("messenger deleted", name, by, zap.Int("connections", ended))
	return ended, nil
}

func (a *service) checkStorable(name string) error {
	if err := checkMessengerName(name); err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("the name %w", err)}
	}
	if a.Messengers[name] != nil {
		return adminError(http.StatusConflict, "this messenger is in the configuration, which goes before what is stored; change it there, or choose another name")
	}
	return nil
}

// change makes a change in the store and puts it into force on this node.
func (a *registry) change(ctx context.Context, name, kind string, f func(old *record) (*record, error)) (*record, error) {
	r, _, err := a.changeAndEnd(ctx, name, kind, f)
	return r, err
}

// changeAndEnd is change for what is meant to end connections, and returns how many of this node it has ended.
func (a *registry) changeAndEnd(ctx context.Context, name, kind string, f func(old *record) (*record, error)) (r *record, ended int, err error) {
	r, err = a.live.change(ctx, name, kind, f, func(r *record) (err error) {
		ended, err = a.live.changed(name, kind, r)
		return err
	})
	if err == nil {
		return r, ended, nil
	}
	if !errors.As(err, new(caddy.APIError)) {
		_ = a.live.reread(ctx, name) // it may have been written all the same
	}
	return nil, 0, storageError(err)
}

// reseal seals all values with the first store key.
func (a *service) reseal(ctx context.Context, adopt bool, by actor) (int, error) {
	if !a.live.seal.enabled() {
		return 0, adminError(http.StatusConflict, "no store key is configured; add store { key {file.…} } to the global option messenger { … }")
	}
	count, err := a.live.reseal(ctx, adopt, isStoreKey)
	a.audit("store resealed", "", by, zap.Int("values", count), zap.Error(err))
	if err != nil {
		return count, storageError(err)
	}
	return count, nil
}

// audit writes down a change with who made it.
func (a *registry) audit(action, name string, by actor, fields ...zap.Field) {
	a.logger.Named("audit").Info(action, append([]zap.Field{zap.String("messenger", name), zap.String("by", string(by))}, fields...)...)
}

// auditWarning writes down that the configuration works, and is probably not meant so.
func (a *registry) auditWarning(warning string, fields ...zap.Field) {
	a.logger.Named("audit").Named("configuration").Warn(warning, append(fields, zap.String("by", "the configuration"))...)
}

// lookUp returns the messenger of that name as it is in force on this node.
func (a *registry) lookUp(ctx context.Context, name string) (*messenger, error) {
	m, rej := a.messenger(ctx, name)
	switch {
	case rej == nil:
		return m, nil
	case rej.Code == authn.MessengerUnknown:
		return nil, errNoMessenger
	}
	return nil, adminError(http.StatusServiceUnavailable, rej.Reason)
}
