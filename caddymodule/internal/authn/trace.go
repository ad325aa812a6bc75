package authn

// A Step is one of the checks of a token. They are made in the order of the constants, and the first that fails ends the
// verification.
type Step int

// The checks of a token.
const (
	CheckForm Step = iota
	CheckAlgorithm
	CheckKey
	CheckSignature
	CheckPayload
	CheckTimes
	CheckIssuer
	CheckAudience
	CheckRequired
	CheckIdentity
	CheckRevocation
	stepCount int = iota
)

// steps describes every check, once for the commands, the admin API and the panel: a short name, and a sentence.
var steps = [stepCount]struct{ name, about string }{
	CheckForm:       {"form", "Form: three parts, and a header that can be read"},
	CheckAlgorithm:  {"algorithm", "Algorithm: the one of the validation method"},
	CheckKey:        {"key", "Key: one that matches the token’s key ID"},
	CheckSignature:  {"signature", "Signature: made by this key over this token"},
	CheckPayload:    {"payload", "Payload: one JSON object of claims"},
	CheckTimes:      {"times", "Times: not expired, not too early, not too long"},
	CheckIssuer:     {"issuer", "Issuer: one that is accepted"},
	CheckAudience:   {"audience", "Audience: one that is accepted"},
	CheckRequired:   {"required claims", "Required claims: all present"},
	CheckIdentity:   {"identity", "Identity: under the identity key, and well formed"},
	CheckRevocation: {"revocation", "Revocation: not revoked by its ID, nor with all tokens of the contact or messenger"},
}

// String returns the short name of the check, which the admin API and the commands show.
func (s Step) String() string { return steps[s].name }

// About says in a sentence what is checked.
func (s Step) About() string { return steps[s].about }

// A Check is one step of a verification with its outcome.
type Check struct {
	Step      Step
	Rejection *Rejection // nil if the check passed
}

// A trace collects the checks of one verification. A nil trace collects nothing and costs nothing.
type trace struct {
	checks []Check
}

// record adds a check with its outcome, and reports whether it failed.
func (t *trace) record(step Step, rej *Rejection) (failed bool) {
	if t != nil {
		t.checks = append(t.checks, Check{Step: step, Rejection: rej})
	}
	return rej != nil
}

// recordSignature records the two checks that checkSignature makes: whether there is a key, and whether it made the signature.
func (t *trace) recordSignature(rej *Rejection) (failed bool) {
	if rej != nil && rej.Code != SignatureInvalid {
		return t.record(CheckKey, rej)
	}
	t.record(CheckKey, nil)
	return t.record(CheckSignature, rej)
}
