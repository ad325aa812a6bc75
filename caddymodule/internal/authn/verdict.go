package authn

// Verified is the verdict on a request whose contact is verified, in logs and metrics. The other verdicts are the [Codes].
const Verified = "verified"

// A CacheOutcome is what the cache of verified tokens had for a token.
type CacheOutcome uint8

// The cache outcomes.
const (
	NotLookedUp CacheOutcome = iota // nothing was verified
	CacheOff
	CacheMiss
	CacheHit
	CacheOutcomes // their number
)

func (c CacheOutcome) String() string { return [CacheOutcomes]string{"", "off", "miss", "hit"}[c] }
