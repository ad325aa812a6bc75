package panel

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/auth"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/routing"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// knownOrigins returns the origins under which the server of this page serves the messenger, by its configuration: hosts of other
// messengers are not among them. Scheme and port are those of this page. What other servers and proxies do is not known.
func (v *visit) knownOrigins() (origins []string) {
	server, _ := v.r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	scheme, reached, known := upstream.ReachedAt(v.r)
	if server == nil || !known {
		return nil
	}
	page, port, err := net.SplitHostPort(reached)
	if err != nil {
		page = reached
	} else {
		port = ":" + port
	}
	routing.VisitHandlers(server, func(handler caddyhttp.MiddlewareHandler, hosts []string) {
		h, ok := handler.(*auth.Handler)
		if !ok {
			return
		}
		for _, host := range hosts {
			if host == "" {
				host = page
			}
			if host, ok = hostOf(h.Messenger, host, v.name); !ok {
				continue
			}
			if origin := scheme + "://" + host + port; !slices.Contains(origins, origin) {
				if _, problem := checkAddress(origin); problem == "" {
					origins = append(origins, origin)
				}
			}
		}
	})
	slices.Sort(origins)
	return origins
}

// hostOf returns the host under which a directive serves the messenger of that name, for a host of its route: ref is what the
// directive has as its messenger. With {labels.2} and *.chat.example.com that is the name in the place of the star.
func hostOf(ref, host, name string) (string, bool) {
	labels := strings.Split(host, ".")
	slices.Reverse(labels)
	for i, label := range labels {
		ref = strings.ReplaceAll(ref, "{"+config.HostLabelPrefix+strconv.Itoa(i)+"}", label)
	}
	switch {
	case strings.Contains(ref, "{"+config.HostLabelPrefix):
		return "", false // the host does not have this label
	case ref == "*" && strings.Count(host, "*") == 1:
		return strings.Replace(host, "*", name, 1), true
	}
	return host, !strings.Contains(host, "*") && config.RefCanName(ref, name)
}
