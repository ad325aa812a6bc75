package panel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/admin"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A save that makes valid tokens invalid has to be confirmed first. The page says how many keys and tokens are affected, and the
// confirmation is bound to what the page showed: the revision, the new settings and the losses. If any of these changes, it has
// to be confirmed again.

// confirmation is the value that the form has to have to be saved. It is not a secret: checkSameOrigin refuses the forms of other sites.
func confirmation(revision string, next *config.Messenger, losses []string) string {
	if next = next.WithoutSecrets(); next.Previous != nil {
		next.Previous.Until = time.Time{} // the losses say for how long, and it is counted from the time of the save
	}
	text, _ := json.Marshal(struct {
		Revision string
		Settings *config.Messenger
		Losses   []string
	}{revision, next, losses}) // settings came from JSON
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// activeKeys says with how many keys or shared tokens the tokens of a messenger can be signed now. known is false for a
// key set that cannot be looked up.
func activeKeys(a *admin.Service, ctx context.Context, d *messengerStatus) (n int, known bool, err error) {
	switch {
	case d.Generated:
		ring, err := a.Tokens(ctx, d.Name)
		if err != nil {
			return 0, false, err
		}
		return len(ring.Tokens), true, nil
	case len(d.Settings.PublicKey) > 0:
		return len(d.Settings.PublicKey), true, nil
	case d.keys != nil:
		n = d.fetchedKeys()
		return n, n > 0, nil // without any, the key set was not fetched yet, or cannot be fetched right now
	}
	return 0, false, nil
}

// fetchedKeys returns how many keys of the key set are active, or 0 if that is not known: those of a previous method that has a key set
// too are not told apart.
func (d *messengerStatus) fetchedKeys() (n int) {
	var former []sigkey.Info
	if p := d.Settings.Previous; p != nil {
		if p.JWKS != nil {
			return 0
		}
		former = publicKeys(p.Settings())
	}
	for _, key := range d.keys.Keys {
		if key.SHA256 != "" && !slices.Contains(former, key.Info) { // a shared token has no such hash
			n++
		}
	}
	return n
}

// losses says in sentences what next makes invalid. Without a key, and without a previous method, there is nothing that could be.
func losses(a *admin.Service, ctx context.Context, d *messengerStatus, next *config.Messenger) (list []string, err error) {
	n, known, err := activeKeys(a, ctx, d)
	if err != nil {
		return nil, err
	}
	old, hasKeys := d.Settings, n > 0 || !known
	all, p := d.named(n, known), old.Previous
	if refusesMore(old.Mode, next.Mode) {
		list = append(list, fmt.Sprintf(textModeLoss, next.Mode.Or(config.ModeRequired).Label(), textRefusing[modeRefuses(next.Mode)]))
	}
	switch hasFormer := !p.IsOver(registry.Now()); {
	case !hasKeys && !hasFormer:
		return list, nil
	case hasFormer:
		if !next.SameMethod(p.Settings()) && (next.Previous == nil || !next.Previous.Settings().SameMethod(p.Settings())) {
			list = append(list, fmt.Sprintf(textPreviousEnds, config.MethodLabel(p.Settings().Method()), p.Until.UTC().Format(time.RFC1123)))
		}
		if former := fmt.Sprintf(textFormerKeys, config.MethodLabel(p.Settings().Method())); hasKeys {
			all += " " + textAnd + " " + former
		} else {
			all = former
		}
	}
	switch {
	case !hasKeys, next.Previous != nil && next.Previous.Settings().SameMethod(old):
		// there is nothing, or what the messenger has stays valid for some time
	case old.Method() != next.Method():
		list = append(list, fmt.Sprintf(textMethodRemoves, d.named(n, known), change.ThemOrIt(n)))
	default:
		list = append(list, keyLosses(old, next, n, d.named(n, known))...)
	}
	for _, s := range config.Settings {
		if text := s.Loss(old, next, all); text != "" {
			list = append(list, text)
		}
	}
	return list, nil
}

// keyLosses are those of a messenger that keeps its method.
func keyLosses(old, next *config.Messenger, n int, all string) (list []string) {
	if old.JWKS != nil {
		list = keySetLosses(old.JWKS, next.JWKS, all)
	}
	if len(old.PublicKey) == 0 {
		was, will := old.SigningAlgorithms(), next.SigningAlgorithms()
		if lost := was &^ will; lost != 0 {
			list = append(list, fmt.Sprintf(textAlgorithmLoss, lost.Text(), all))
		}
		if old.JWKS != nil && len(forRSA(was)) == 1 && len(forRSA(will)) > 1 {
			list = append(list, fmt.Sprintf(textAlgorithmsAmbiguous, strings.Join(forRSA(will), ", "), all))
		}
		return list
	}
	var removed, renamed, other []string
	kept := publicKeys(next)
	lost := slices.DeleteFunc(publicKeys(old), func(key sigkey.Info) bool { return verifiesStill(kept, key) })
	for _, key := range publicKeys(old) {
		kept = slices.DeleteFunc(kept, func(k sigkey.Info) bool { return k == key }) // no other key is taken for it
	}
	for _, key := range lost {
		name := "SHA-256 " + key.SHA256[:16] + "…"
		if key.KeyID != "" {
			name = textKeyIDName + key.KeyID
		}
		at := slices.IndexFunc(kept, func(k sigkey.Info) bool { return k.SHA256 == key.SHA256 && k.Algorithm == key.Algorithm })
		if at < 0 && slices.ContainsFunc(kept, func(k sigkey.Info) bool { return k.SHA256 == key.SHA256 }) {
			other = append(other, name)
			continue
		}
		if at < 0 {
			removed = append(removed, name)
			continue
		}
		renamed = append(renamed, name)
		kept = slices.Delete(kept, at, at+1)
	}
	if len(removed) > 0 {
		list = append(list, fmt.Sprintf(textKeysRemoved, len(removed), n, strings.Join(removed, ", "), change.ThemOrIt(len(removed))))
	}
	if len(other) > 0 {
		list = append(list, fmt.Sprintf(textKeysOtherAlgorithm, len(other), n, strings.Join(other, ", ")))
	}
	if len(renamed) > 0 {
		list = append(list, fmt.Sprintf(textKeysRenamed, len(renamed), n, strings.Join(renamed, ", ")))
	}
	return list
}

// keySetLosses are those of a key set that is fetched from another place, or in another way: nothing that was fetched before is used.
func keySetLosses(old, next *config.JWKS, all string) []string {
	switch {
	case old.Document() != next.Document():
		return []string{fmt.Sprintf(textURLLoss, all)}
	case old.CA != next.CA:
		return []string{fmt.Sprintf(textAccessLoss, textCA, all)}
	case !slices.Equal(old.Header, next.Header):
		return []string{fmt.Sprintf(textAccessLoss, textRequestHeader, all)}
	}
	return nil
}

// forRSA are those algorithms that keys of the type RSA can have. The others fit one type of keys each. If there are several, an entry of
// a key set has to say which of them is its own.
func forRSA(algorithms sigkey.Algorithms) []string {
	return slices.DeleteFunc(algorithms.Names(), func(name string) bool { return !strings.HasPrefix(name, "RS") && !strings.HasPrefix(name, "PS") })
}

// verifiesStill reports whether keys verify all that key verifies: a key without a key ID verifies tokens with any.
func verifiesStill(keys []sigkey.Info, key sigkey.Info) bool {
	return slices.ContainsFunc(keys, func(k sigkey.Info) bool {
		return k.SHA256 == key.SHA256 && k.Algorithm == key.Algorithm && (k.KeyID == key.KeyID || k.KeyID == "")
	})
}

// publicKeys describes the keys of m that can be read; others verify nothing.
func publicKeys(m *config.Messenger) []sigkey.Info {
	var infos []sigkey.Info
	for _, k := range m.PublicKey {
		key, err := k.Parse([]byte(k.Key))
		if err != nil {
			continue
		}
		if set, err := authn.NewKeySet(key); err == nil {
			infos = append(infos, authn.NewVerifier(authn.Policy{}, set).Keys()...)
		}
	}
	return infos
}

// What is in use at a messenger, in numbers. Every page that asks before something ends says it: how many shared tokens and requests
// of the last day, and how many open connections. They are not part of what a confirmation is bound to, because they change with
// every request.

// inUse says what is in use at a messenger. ring is nil if it has no generated shared tokens.
func inUse(a *admin.Service, d *messengerStatus, ring *admin.TokenList) string {
	var parts []string
	if ring != nil && len(ring.Tokens) > 0 {
		used := 0
		for _, t := range ring.Tokens {
			if t.LastUsed != nil && registry.Now().Sub(*t.LastUsed) < 25*time.Hour { // it is known to the hour
				used++
			}
		}
		parts = append(parts, fmt.Sprintf(textTokensUsed, cause.Counted(len(ring.Tokens), textSharedToken), used, wasOrWere(used)))
	}
	requests := textRequestsUnknown
	if d.Readiness != nil {
		requests = fmt.Sprintf(textRequestsCounted, cause.Counted(d.Readiness.LastWindow().Valid, textRequest))
	}
	return strings.Join(append(parts, fmt.Sprintf(textOpenOf, requests, cause.Counted(a.ConnectionsOf(d.Name).Open, textOpenConnection))), " ")
}

// inUseOf is inUse for a page that has not read the ring.
func inUseOf(a *admin.Service, ctx context.Context, d *messengerStatus) (string, error) {
	var ring *admin.TokenList
	if d.Settings.UsesRing(registry.Now()) {
		var err error
		if ring, err = a.Tokens(ctx, d.Name); err != nil {
			return "", err
		}
	}
	return inUse(a, d, ring), nil
}

// connectionsAfter says what a change of settings does to open connections.
func connectionsAfter(old, next *config.Messenger) string {
	if next.JWKS != nil && (old.JWKS == nil || old.JWKS.Document() != next.JWKS.Document()) {
		return textFetchCloses
	}
	return textConnectionsStay
}
