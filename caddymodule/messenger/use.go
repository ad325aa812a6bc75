package messenger

import (
	"slices"

	"go.uber.org/zap"
)

// warnAboutUnused warns about configured messengers that no messenger_auth can choose. The directive may be missing or name
// another messenger, and then a chat backend may be open. All handlers must be registered before.
func (a *App) warnAboutUnused() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.names() {
		if !slices.ContainsFunc(a.routes, func(r Route) bool { return r.MayServe(name) }) {
			a.registry.AuditWarning("no messenger_auth uses this messenger, so that nothing verifies its contacts; write messenger_auth "+name+" in front of its chat backend, or remove the messenger",
				zap.String("messenger", name))
		}
	}
}
