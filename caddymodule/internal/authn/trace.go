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

// steps names every check, once for the terminal, the admin API and the panel: in short, and as a sentence.
var steps = [stepCount]struct{ name, about string }{
	CheckForm:       {"form", "Form: three parts, and a header that can be read"},
	CheckAlgorithm:  {"algorithm", "Algorithm: the one of the validation method"},
	CheckKey:        {"key", "Key: one that fits the token’s key ID"},
	CheckSignature:  {"signature", "Signature: made by this key over this token"},
	CheckPayload:    {"payload", "Payload: one JSON object of claims"},
	CheckTimes:      {"times", "Times: not expired, not too early, not too long"},
	CheckIssuer:     {"issuer", "Issuer: one that is accepted"},
	CheckAudience:   {"audience", "Audience: one that is accepted"},
	CheckRequired:   {"required claims", "Required claims: all there"},
	CheckIdentity:   {"identity", "Identity: under the identity key, and well formed"},
	CheckRevocation: {"revocation", "Revocation: not revoked, nor all tokens of the contact or the messenger"},
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

// A Trace collects the checks of one verification. A nil Trace collects nothing and costs nothing.
type Trace struct {
	Checks []Check
}

func (t *Trace) note(step Step, rej *Rejection) {
	if t != nil {
		t.Checks = append(t.Checks, Check{Step: step, Rejection: rej})
	}
}

// noteSignature notes the two checks that are made in one step: whether there is a key, and whether it fits.
func (t *Trace) noteSignature(rej *Rejection) {
	if rej != nil && rej.Code != SignatureInvalid {
		t.note(CheckKey, rej)
		return
	}
	t.note(CheckKey, nil)
	t.note(CheckSignature, rej)
}
