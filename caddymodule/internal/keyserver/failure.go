package keyserver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// The reasons for which a fetch can fail are a closed list, because site owners see them, and must not explore a network with
// the gateway's help: a closed port, one that answers with something else and one that does not answer look the same to them.
// The cause that an error wraps next to its reason is for the operator's log.
var (
	errUnreachable      = NewFailure(Unreachable, "the key server cannot be reached")
	errTimeout          = NewFailure(Unreachable, "the key server did not answer completely in time")
	errForbiddenAddress = NewFailure(Refused, "the key server has an address that is not public, or a port other than 443")
	errRedirect         = FailureOf(Refused, cause.ServerRedirect)
	errRedirects        = NewFailure(Refused, "the key server redirects too often")
	errStatus           = NewFailure(Refused, "the key server answers with a status other than 200")
	errEncoding         = FailureOf(Unusable, cause.ServerEncoding)
	errTooLarge         = NewFailure(Unusable, "the answer of the key server is larger than 256 KiB")
)

// A Class says in one word what kind of failure it was, for counting.
type Class string

// The classes of failures.
const (
	Unreachable Class = "unreachable" // no answer, or none in time
	Refused     Class = "refused"     // an error status, a redirect to another host, or an address that is not allowed
	Unusable    Class = "unusable"    // an answer whose content cannot be used
)

type fetchError struct {
	class  Class
	reason string
	cause  error // of the table of causes, or nil
}

// NewFailure returns a further reason, for those who read the content of an answer. It is a constant sentence.
func NewFailure(class Class, reason string) error { return &fetchError{class, reason, nil} }

// FailureOf is NewFailure for a cause that has a name.
func FailureOf(class Class, c cause.Cause) error {
	return &fetchError{class, c.Err().Error(), c.Err()}
}

func (e *fetchError) Error() string { return e.reason }

func (e *fetchError) Unwrap() error { return e.cause }

// Reason returns the reason of the list that err wraps, without its cause: the only part that site owners may see. It returns
// nil for nil.
func Reason(err error) error {
	if err == nil {
		return nil
	}
	return reasonOf(err)
}

// ClassOf returns the class of an error.
func ClassOf(err error) Class { return reasonOf(err).class }

// reasonOf treats an error that is not of the list as a server that cannot be reached, because nothing else may be shown of it.
func reasonOf(err error) *fetchError {
	if reason, ok := errors.AsType[*fetchError](err); ok {
		return reason
	}
	return errUnreachable.(*fetchError)
}

// classify puts a reason of the list in front of an error of net/http, and leaves out the URL that net/http adds.
func classify(err error) error {
	if urlError, ok := errors.AsType[*url.Error](err); ok {
		err = urlError.Err
	}
	if reason, ok := errors.AsType[*fetchError](err); ok {
		if errors.Is(err, errRedirect) {
			return err // with the target
		}
		return reason // of checkRedirect or dialPublic
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return fmt.Errorf("%w: %w", errUnreachable, cause.ServerAuthority.Err())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}
