package config

// WithFormer returns the former settings with those of m, which come from flags. Settings without a flag stay.
func (m *Messenger) WithFormer(former *Messenger) *Messenger {
	next := former.CopySettings()
	next.IdentityKey, next.PublicKey, next.SharedToken = m.IdentityKey, m.PublicKey, m.SharedToken
	next.Issuer, next.Audience, next.RequireClaims, next.AllowedOrigin = m.Issuer, m.Audience, m.RequireClaims, m.AllowedOrigin
	next.ClockSkew, next.MaxLifetime, next.Mode = m.ClockSkew, m.MaxLifetime, m.Mode
	next.JWKS = m.JWKS
	if m.JWKS != nil && former.JWKS != nil {
		set := *former.JWKS
		set.URL = m.JWKS.URL
		next.JWKS = &set
	}
	return next
}
