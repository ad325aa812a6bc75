package authn

// The checks of a token, in the order in which they are made. The first that fails ends the verification.
const (
	CheckForm       = "form"
	CheckAlgorithm  = "algorithm"
	CheckKey        = "key"
	CheckSignature  = "signature"
	CheckPayload    = "payload"
	CheckTimes      = "times"
	CheckIssuer     = "issuer"
	CheckAudience   = "audience"
	CheckRequired   = "required claims"
	CheckIdentity   = "identity"
	CheckRevocation = "revocation"
)

// A Check is one step of a verification with its outcome.
type Check struct {
	Name      string
	Rejection *Rejection // nil if the check passed
}

// A Trace collects the checks of one verification. A nil Trace collects nothing and costs nothing.
type Trace struct {
	Checks []Check
}

func (t *Trace) note(name string, rej *Rejection) {
	if t != nil {
		t.Checks = append(t.Checks, Check{Name: name, Rejection: rej})
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
