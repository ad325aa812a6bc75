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
		return len(d.keys.Keys), true, nil
	}
	return 0, false, nil
}

// losses says in sentences which keys and tokens next makes invalid. Nothing is lost if there is no key.
func losses(a *admin.Service, ctx context.Context, d *messengerStatus, next *config.Messenger) ([]string, error) {
	n, known, err := activeKeys(a, ctx, d)
	if err != nil || known && n == 0 {
		return nil, err
	}
	old, all := d.Settings, d.named(n, known)
	var list []string
	if p := old.Previous; !p.IsOver(registry.Now()) && !next.SameMethod(p.Settings()) && (next.Previous == nil || !next.Previous.Settings().SameMethod(p.Settings())) {
		list = append(list, fmt.Sprintf(textPreviousEnds, methodNames[p.Settings().Method()], p.Until.UTC().Format(time.RFC1123)))
	}
	if next.Previous != nil && next.Previous.Settings().SameMethod(old) {
		// what the messenger has stays valid for some time
	} else if old.Method() != next.Method() {
		list = append(list, fmt.Sprintf(textMethodRemoves, all, itOrThem(n)))
	} else {
		list = append(list, keyLosses(old, next, n, all)...)
	}
	if old.IdentityName() != next.IdentityName() {
		list = append(list, fmt.Sprintf(textIdentityLoss, next.IdentityName(), all))
	}
	for _, c := range []struct {
		label    string
		old, new []string
	}{{textIssuer, old.Issuers(), next.Issuers()}, {textAudience, old.Audience, next.Audience}} {
		if narrows(c.old, c.new) {
			list = append(list, fmt.Sprintf(textListLoss, c.label, strings.Join(c.new, ", "), all))
		}
	}
	if added := without(next.RequireClaims, old.RequireClaims); len(added) > 0 {
		list = append(list, fmt.Sprintf(textClaimsLoss, strings.Join(added, ", "), all))
	}
	if next.TokenType != "" && (old.TokenType == "" || authn.TypeOf(next.TokenType) != authn.TypeOf(old.TokenType)) {
		list = append(list, fmt.Sprintf(textTypeLoss, next.TokenType, all))
	}
	if next.MaxLifetime > 0 && (old.MaxLifetime == 0 || next.MaxLifetime < old.MaxLifetime) {
		list = append(list, fmt.Sprintf(textLifetimeLoss, config.DurationText(time.Duration(next.MaxLifetime)), all))
	}
	if next.Mode == config.ModeOff && old.Mode != config.ModeOff {
		list = append(list, fmt.Sprintf(textModeOffLoss, all))
	}
	return list, nil
}

// keyLosses are those of a messenger that keeps its method.
func keyLosses(old, next *config.Messenger, n int, all string) (list []string) {
	if old.JWKS != nil && old.JWKS.Document() != next.JWKS.Document() {
		list = append(list, fmt.Sprintf(textURLLoss, all))
	}
	if len(old.PublicKey) == 0 {
		if lost := old.SigningAlgorithms() &^ next.SigningAlgorithms(); lost != 0 {
			list = append(list, fmt.Sprintf(textAlgorithmLoss, lost.Text(), all))
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
		list = append(list, fmt.Sprintf(textKeysRemoved, len(removed), n, strings.Join(removed, ", "), itOrThem(len(removed))))
	}
	if len(other) > 0 {
		list = append(list, fmt.Sprintf(textKeysOtherAlgorithm, len(other), n, strings.Join(other, ", ")))
	}
	if len(renamed) > 0 {
		list = append(list, fmt.Sprintf(textKeysRenamed, len(renamed), n, strings.Join(renamed, ", ")))
	}
	return list
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

// narrows reports whether a list of accepted values refuses what was accepted before. An empty one accepts everything.
func narrows(old, next []string) bool {
	return len(next) > 0 && (len(old) == 0 || len(without(old, next)) > 0)
}

// without returns the values that are not among others.
func without(values, others []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return slices.Contains(others, v) })
}
