package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// What a change of one setting makes invalid, in sentences for site owners, who are asked before it is saved. What a change of the
// method and its keys takes out of use is in loss.go.

// Loss says what it makes invalid to change the setting from that of old to that of next, or "" for nothing. all names the keys of the
// messenger.
func (s Setting) Loss(old, next *Messenger, all string) string {
	if s.loss == nil {
		return ""
	}
	return s.loss(s, old, next, all)
}

func identityLoss(_ Setting, old, next *Messenger, all string) string {
	if slices.Equal(old.identityPlace(), next.identityPlace()) {
		return ""
	}
	return fmt.Sprintf("Another contact identity key: tokens without the claim %s are refused, including those that are signed with %s, and contacts get the identity in the new claim.",
		next.IdentityName(), all)
}

// identityPlace returns where the identity is inside a token, for an identity key as for an identity path.
func (m *Messenger) identityPlace() strictjson.Pointer {
	if m.IdentityPath == "" {
		return strictjson.Pointer{m.IdentityKey}
	}
	path, _ := ParseIdentityPath(m.IdentityPath) // it was checked
	return path
}

func issuerLoss(s Setting, old, next *Messenger, all string) string {
	return listLoss(s.Label, old.Issuers(), next.Issuers(), all)
}

func audienceLoss(s Setting, old, next *Messenger, all string) string {
	return listLoss(s.Label, old.Audience, next.Audience, all)
}

func listLoss(label string, old, next []string, all string) string {
	if !narrows(old, next) {
		return ""
	}
	return fmt.Sprintf("%s: tokens with any other than %s are refused, including those that are signed with %s.", label, strings.Join(next, ", "), all)
}

func typeLoss(s Setting, old, next *Messenger, all string) string {
	was, will := authn.TypeOf(old.TokenType), authn.TypeOf(next.TokenType)
	switch {
	case will == was, will == "" && authn.IsContactType(was):
		return ""
	case will == "":
		return fmt.Sprintf("%s: tokens with the typ %s are refused, including those that are signed with %s. Tokens are accepted with the typ JWT, at+jwt or JOSE, or without one.",
			s.Label, old.TokenType, all)
	}
	return fmt.Sprintf("%s: tokens with another typ than %s, or without one, are refused, including those that are signed with %s.", s.Label, next.TokenType, all)
}

func claimsLoss(s Setting, old, next *Messenger, all string) string {
	added := without(next.RequireClaims, old.RequireClaims)
	if len(added) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: tokens without %s are refused, including those that are signed with %s.", s.Label, strings.Join(added, ", "), all)
}

func lifetimeLoss(s Setting, old, next *Messenger, all string) string {
	if !isShorter(time.Duration(old.MaxLifetime), time.Duration(next.MaxLifetime)) {
		return ""
	}
	return fmt.Sprintf("%s: tokens with a lifetime of more than %s are refused, and tokens without exp or iat, including those that are signed with %s.",
		s.Label, DurationText(time.Duration(next.MaxLifetime)), all)
}

func skewLoss(s Setting, old, next *Messenger, all string) string {
	will := DurationOr(next.ClockSkew, DefaultClockSkew)
	if will >= DurationOr(old.ClockSkew, DefaultClockSkew) {
		return ""
	}
	return fmt.Sprintf("%s: tokens are refused if the clocks of your site and of the gateway are more than %s apart, including those that are signed with %s.",
		s.Label, DurationText(will), all)
}

func originLoss(s Setting, old, next *Messenger, all string) string {
	if !narrows(origins(old.AllowedOrigin), origins(next.AllowedOrigin)) {
		return ""
	}
	return fmt.Sprintf("%s: pages of any other origin than %s are refused, whatever their token, including those with tokens that are signed with %s.",
		s.Label, strings.Join(next.AllowedOrigin, ", "), all)
}

// origins returns origins as they are compared.
func origins(list []string) (parsed []Origin) {
	for _, text := range list {
		if o, err := ParseOrigin(text); err == nil {
			parsed = append(parsed, o)
		}
	}
	return parsed
}

func sessionLoss(s Setting, old, next *Messenger, _ string) string {
	will := DurationOr(next.MaxSession, DefaultMaxSession)
	if !isShorter(DurationOr(old.MaxSession, DefaultMaxSession), will) {
		return ""
	}
	return fmt.Sprintf("%s: connections that are opened from then on are closed after %s.", s.Label, DurationText(will))
}

func limitLoss(s Setting, old, next *Messenger, all string) string {
	if !next.FailLimit.isStricterThan(old.FailLimit) {
		return ""
	}
	return fmt.Sprintf("%s: a client address that has sent %d forged tokens within %s is refused for a while, with valid tokens as well, including those that are signed with %s.",
		s.Label, next.FailLimit.Attempts, DurationText(time.Duration(next.FailLimit.Window)), all)
}

// isStricterThan reports whether a limit of forged tokens allows fewer of them than another, at once or in the long run.
func (f *FailLimit) isStricterThan(other *FailLimit) bool {
	if f == nil || other == nil {
		return f != nil
	}
	perAttempt := func(f *FailLimit) float64 { return float64(f.Window) / float64(f.Attempts) }
	return f.Attempts < other.Attempts || perAttempt(f) > perAttempt(other)
}

// modeLoss is the loss of the mode off. The panel always asks before a mode that refuses more, even if the messenger has no keys.
func modeLoss(_ Setting, old, next *Messenger, all string) string {
	if next.Mode != ModeOff || old.Mode == ModeOff {
		return ""
	}
	return fmt.Sprintf("Mode Off: contacts are no longer verified, and tokens that are signed with %s are not checked.", all)
}

// isShorter reports whether a limit is shorter than before. 0 is none.
func isShorter(was, will time.Duration) bool { return will > 0 && (was == 0 || will < was) }

// narrows reports whether a list of accepted values refuses what was accepted before. An empty one accepts everything.
func narrows[V comparable](old, next []V) bool {
	return len(next) > 0 && (len(old) == 0 || len(without(old, next)) > 0)
}

// without returns the values that are not among others.
func without[V comparable](values, others []V) []V {
	return slices.DeleteFunc(slices.Clone(values), func(v V) bool { return slices.Contains(others, v) })
}
