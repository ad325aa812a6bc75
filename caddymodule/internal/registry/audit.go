package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/trail"
)

// An Actor is who makes a change, for the audit log and the history of a messenger.
type Actor string

// maxActor is how many bytes of an actor's name are stored with a change.
const maxActor = 200

type actorKey struct{}

// WithActor returns a context for a change by that actor: the facts that are written name the actor.
func WithActor(ctx context.Context, by Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, by)
}

// signFacts names in facts who has made them. A logout names the contact already.
func signFacts(ctx context.Context, facts []*ledger.Fact) {
	by, _ := ctx.Value(actorKey{}).(Actor)
	if by == "" || by == ByContact {
		return
	}
	name := strings.ToValidUTF8(string(by[:min(len(by), maxActor)]), "")
	for _, f := range facts {
		f.By = name
	}
}

// Audit logs a change and who made it, and remembers it for the history of the messenger. fields have no secret, no token and no
// contact.
func (reg *Registry) Audit(action trail.Action, name string, by Actor, fields ...zap.Field) {
	reg.Logger.Named("audit").Info(action.String(), append([]zap.Field{zap.String("messenger", name), zap.String("by", string(by))}, fields...)...)
	if name != "" {
		reg.Store.Trail.Add(name, trail.Entry{At: time.Now().UTC(), Action: action, By: string(by), Contact: by == ByContact, Details: details(fields)})
	}
}

// details returns fields as text.
func details(fields []zap.Field) (list []trail.Detail) {
	for _, field := range fields {
		values := zapcore.NewMapObjectEncoder()
		field.AddTo(values)
		if value, found := values.Fields[field.Key]; found {
			list = append(list, trail.Detail{Name: field.Key, Value: fmt.Sprint(value)})
		}
	}
	return slices.Clip(list)
}

// History returns what the storage says about the changes of a messenger, the latest first, and what this node remembers of its
// audit log. Nothing of a deleted messenger is in the history of one that has its name now, and perhaps another owner.
func (reg *Registry) History(ctx context.Context, name string) (stored []ledger.Event, audited []trail.Entry, err error) {
	j, _, err := reg.journal(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	audited = reg.Store.Trail.Of(name)
	if r := j.Record(); r != nil && j.Kind == ledger.KindStored {
		audited = slices.DeleteFunc(audited, func(e trail.Entry) bool { return e.At.Before(r.Created) })
	}
	return j.Events(), audited, nil
}
