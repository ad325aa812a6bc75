package panel

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// The conditions of a messenger, which its tokens, pages and connections meet: whether a save makes one of them stricter. Method and keys
// are in confirm.go.

// A conditionLoss says what a change of one setting makes invalid, or "" for nothing. all names the keys of the messenger.
type conditionLoss func(old, next *config.Messenger, all string) string

// conditionLosses are the losses by the names of the settings. A setting that is not here refuses nothing, whatever its value; a test
// knows which these are.
var conditionLosses = sync.OnceValue(func() map[string]conditionLoss {
	return map[string]conditionLoss{
		"identity_key": func(old, next *config.Messenger, all string) string {
			if slices.Equal(identityPlace(old), identityPlace(next)) {
				return ""
			}
			return fmt.Sprintf(textIdentityLoss, next.IdentityName(), all)
		},
		"issuer": func(old, next *config.Messenger, all string) string {
			return listLoss(textIssuer, old.Issuers(), next.Issuers(), all)
		},
		"audience": func(old, next *config.Messenger, all string) string {
			return listLoss(textAudience, old.Audience, next.Audience, all)
		},
		"token_type": func(old, next *config.Messenger, all string) string {
			was, will := authn.TypeOf(old.TokenType), authn.TypeOf(next.TokenType)
			switch {
			case will == was, will == "" && authn.IsContactType(was):
				return ""
			case will == "":
				return fmt.Sprintf(textUsualTypeLoss, old.TokenType, all)
			}
			return fmt.Sprintf(textTypeLoss, next.TokenType, all)
		},
		"require_claims": func(old, next *config.Messenger, all string) string {
			added := without(next.RequireClaims, old.RequireClaims)
			if len(added) == 0 {
				return ""
			}
			return fmt.Sprintf(textClaimsLoss, strings.Join(added, ", "), all)
		},
		"max_lifetime": func(old, next *config.Messenger, all string) string {
			if !isShorter(time.Duration(old.MaxLifetime), time.Duration(next.MaxLifetime)) {
				return ""
			}
			return fmt.Sprintf(textLifetimeLoss, config.DurationText(time.Duration(next.MaxLifetime)), all)
		},
		"clock_skew": func(old, next *config.Messenger, all string) string {
			will := config.DurationOr(next.ClockSkew, config.DefaultClockSkew)
			if will >= config.DurationOr(old.ClockSkew, config.DefaultClockSkew) {
				return ""
			}
			return fmt.Sprintf(textSkewLoss, config.DurationText(will), all)
		},
		"allowed_origin": func(old, next *config.Messenger, all string) string {
			if !narrows(origins(old.AllowedOrigin), origins(next.AllowedOrigin)) {
				return ""
			}
			return fmt.Sprintf(textOriginLoss, strings.Join(next.AllowedOrigin, ", "), all)
		},
		"max_session": func(old, next *config.Messenger, _ string) string {
			will := config.DurationOr(next.MaxSession, config.DefaultMaxSession)
			if !isShorter(config.DurationOr(old.MaxSession, config.DefaultMaxSession), will) {
				return ""
			}
			return fmt.Sprintf(textSessionLoss, config.DurationText(will))
		},
		"fail_limit": func(old, next *config.Messenger, all string) string {
			if !isStricter(old.FailLimit, next.FailLimit) {
				return ""
			}
			return fmt.Sprintf(textLimitLoss, next.FailLimit.Attempts, config.DurationText(time.Duration(next.FailLimit.Window)), all)
		},
		"mode": func(old, next *config.Messenger, all string) string {
			if next.Mode != config.ModeOff || old.Mode == config.ModeOff {
				return ""
			}
			return fmt.Sprintf(textModeOffLoss, all)
		},
	}
})

// identityPlace returns where the identity is inside a token, for an identity key as for an identity path.
func identityPlace(m *config.Messenger) strictjson.Pointer {
	if m.IdentityPath == "" {
		return strictjson.Pointer{m.IdentityKey}
	}
	path, _ := config.ParseIdentityPath(m.IdentityPath) // it was checked
	return path
}

// modeRefuses says how much a mode refuses: 0 for nothing, 1 for invalid tokens, 2 for requests without a token as well.
func modeRefuses(m config.Mode) int {
	return map[config.Mode]int{config.ModeOptional: 1, config.ModeRequired: 2}[m.Or(config.ModeRequired)]
}

// refusesMore reports whether a mode refuses more than the one before.
func refusesMore(was, will config.Mode) bool { return modeRefuses(will) > modeRefuses(was) }

// isShorter reports whether a limit is shorter than before. 0 is none.
func isShorter(was, will time.Duration) bool { return will > 0 && (was == 0 || will < was) }

// isStricter reports whether a limit of forged tokens allows fewer of them, at once or in the long run.
func isStricter(was, will *config.FailLimit) bool {
	if was == nil || will == nil {
		return will != nil
	}
	perAttempt := func(f *config.FailLimit) float64 { return float64(f.Window) / float64(f.Attempts) }
	return will.Attempts < was.Attempts || perAttempt(will) > perAttempt(was)
}

// origins returns origins as they are compared.
func origins(list []string) (parsed []config.Origin) {
	for _, text := range list {
		if o, err := config.ParseOrigin(text); err == nil {
			parsed = append(parsed, o)
		}
	}
	return parsed
}

func listLoss(label string, old, next []string, all string) string {
	if !narrows(old, next) {
		return ""
	}
	return fmt.Sprintf(textListLoss, label, strings.Join(next, ", "), all)
}

// narrows reports whether a list of accepted values refuses what was accepted before. An empty one accepts everything.
func narrows[V comparable](old, next []V) bool {
	return len(next) > 0 && (len(old) == 0 || len(without(old, next)) > 0)
}

// without returns the values that are not among others.
func without[V comparable](values, others []V) []V {
	return slices.DeleteFunc(slices.Clone(values), func(v V) bool { return slices.Contains(others, v) })
}
