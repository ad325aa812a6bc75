package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/messenger"
)

// auditLog is the logger of all changes that people make. Loggers below it have warnings about the configuration, and changes
// of keys in files and at key servers.
const auditLog = "messenger.audit"

// QuietLogging logs only errors and the changes that people make.
func QuietLogging() *caddy.Logging {
	return &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{Level: "ERROR"}, Exclude: []string{auditLog}},
		"audit":                 {BaseLog: caddy.BaseLog{Level: "INFO"}, Include: []string{auditLog}, Exclude: []string{auditLog + ".configuration", auditLog + ".keys"}},
	}}
}

// OfflineApp makes the app and the storage of a configuration in JSON without running them: keys are loaded, and nothing is
// fetched or written yet. The caller must call the returned function when it no longer needs the app.
func OfflineApp(config []byte) (*Service, func(), error) {
	// The rest need not be valid: a command may be needed when a gateway does not start.
	var parsed struct {
		Storage json.RawMessage `json:"storage"`
		Apps    caddy.ModuleMap `json:"apps"`
	}
	if len(bytes.TrimSpace(config)) == 0 {
		return nil, nil, errors.New("there is no configuration: the file is empty, or there is no Caddyfile in this folder; name the one that the gateway runs with --config")
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, nil, fmt.Errorf("the configuration is not valid JSON: %w", err)
	}
	settings := parsed.Apps["messenger"]
	if settings == nil {
		settings = json.RawMessage("{}")
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{Logging: QuietLogging(), StorageRaw: parsed.Storage, AppsRaw: caddy.ModuleMap{"messenger": settings}})
	if err != nil {
		return nil, nil, err
	}
	loaded, err := ctx.App("messenger")
	if err != nil {
		return nil, nil, err
	}
	app := loaded.(*messenger.App)
	routes := handlersOf(config, app.Registry())
	return &Service{app.Registry(), func() []*auth.Handler { return routes }}, func() { _ = app.Cleanup() }, nil
}

// OnlyMessenger returns a configuration with only the named one of its messengers, and false if it does not have that messenger.
func OnlyMessenger(config []byte, name string) (reduced []byte, found bool) {
	var tree map[string]any
	if json.Unmarshal(config, &tree) != nil {
		return nil, false
	}
	apps, _ := tree["apps"].(map[string]any)
	app, _ := apps["messenger"].(map[string]any)
	messengers, _ := app["messengers"].(map[string]any)
	settings, found := messengers[name]
	if !found {
		return nil, false
	}
	app["messengers"] = map[string]any{name: settings}
	reduced, err := json.Marshal(tree)
	return reduced, err == nil
}

// ExplainOffline is Explain for an app that does not run: key sets are fetched now. A set that cannot be fetched shows as
// keys_unavailable, as it would in a gateway.
func (s *Service) ExplainOffline(name, token string) (*Explanation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var fetches sync.WaitGroup
	for _, m := range s.Messengers {
		for _, set := range m.KeySets() {
			fetches.Go(func() { _ = set.Refresh(ctx, false) }) // a finding gives the reason for a failure
		}
	}
	fetches.Wait()
	m, err := s.LookUp(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.Explain(ctx, m, token, true)
}

// handlersOf finds the messenger_auth handlers anywhere in a configuration. They are not provisioned, and only serve to explain
// which headers they would set.
func handlersOf(config []byte, app *registry.Registry) []*auth.Handler {
	var tree any
	if json.Unmarshal(config, &tree) != nil {
		return nil
	}
	var found []*auth.Handler
	var walk func(node any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, child := range node {
				walk(child)
			}
		case map[string]any:
			if node["handler"] == "messenger_auth" {
				text, _ := json.Marshal(node)
				if h, err := auth.ReadHandler(text, app); err == nil {
					found = append(found, h)
				}
			}
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(tree)
	return found
}
