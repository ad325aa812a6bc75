package keyserver

import (
	"net"
	"net/netip"
	"syscall"
)

// newDialer returns the dialer of a client.
func newDialer(public bool) *net.Dialer {
	dialer := &net.Dialer{Timeout: DefaultTimeout}
	if public {
		dialer.Control = dialPublic
	}
	return dialer
}

// dialPublic refuses addresses that are not public. The dialer calls it with the address that it is about to connect to, after
// the name was resolved: a check of the URL, or of an earlier look-up, would be undone by a name server that answers
// differently the next time (server-side request forgery by DNS rebinding).
func dialPublic(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil || target.Port() != 443 || !isPublic(target.Addr()) {
		return errForbiddenAddress
	}
	return nil
}

// assigned is the part of IPv6 that the internet uses. Most ranges that embed an IPv4 address, or lead nowhere, are outside
// of it.
var assigned = netip.MustParsePrefix("2000::/3")

// notPublic are the ranges of the IANA special-purpose address registries that netip does not know by name, and those
// within assigned that embed an IPv4 address in an IPv6 one.
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
