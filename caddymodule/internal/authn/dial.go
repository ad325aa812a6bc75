package authn

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

var errForbiddenAddress = errors.New("the key server has an address that is not public, or a port other than 443")

// dialPublic prevents fetches from addresses that are not public. It is called after the name was resolved, so
// that no name server can lead a site owner's URL to the network of the gateway (server-side request
// forgery, also by DNS rebinding).
func dialPublic(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || target.Port() != 443 || !isPublic(target.Addr()) {
		return errForbiddenAddress
	}
	return nil
}

// assigned is what the internet uses of IPv6. Ranges that carry an IPv4 address, or lead nowhere, mostly lie outside of it.
var assigned = netip.MustParsePrefix("2000::/3")

// notPublic are the ranges of the IANA special-purpose address registries that netip does not know by name, and those
// within assigned that carry an IPv4 address inside of an IPv6 one.
var notPublic = func() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

func isPublic(ip netip.Addr) bool {
	ip = ip.WithZone("").Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return false
	}
	if ip.Is6() && !assigned.Contains(ip) {
		return false
	}
	for _, prefix := range notPublic {
		if prefix.Contains(ip) {
			return false
		}
	}
	return true
}

// newDialer returns what a fetch dials with.
func newDialer(public bool) *net.Dialer {
	dialer := &net.Dialer{Timeout: DefaultFetchTimeout}
	if public {
		dialer.Control = dialPublic
	}
	return dialer
}
