package integration

import (
	"strings"
	"testing"
)

// Where a proxy in front has read the body to its end, net/http has put the trailers into the request again by the time a second
// proxy sends it on.
func TestTrailersDoNotReachASecondUpstream(t *testing.T) {
	m := methods(t)[0]
	token := bearer(sign(m.key, valid("mark")))
	up := newUpstream(t)
	for name, site := range map[string]string{
		"a second proxy for a response": "messenger_auth support\nreverse_proxy UPSTREAM {\n header_up First yes\n @any status 2xx\n handle_response @any {\n reverse_proxy UPSTREAM {\n header_up -First\n}\n }\n}",
		"a body that was buffered":      "messenger_auth support\nreverse_proxy UPSTREAM {\n request_buffers 4KiB\n}",
		"an error route afterwards":     "messenger_auth support\nreverse_proxy UPSTREAM {\n header_up First yes\n @any status 2xx\n handle_response @any {\n error 418\n }\n}\nhandle_errors {\n reverse_proxy UPSTREAM\n}",
		"intercept":                     "route {\n messenger_auth support\n intercept {\n @any status 2xx\n handle_response @any {\n reverse_proxy UPSTREAM\n }\n }\n reverse_proxy UPSTREAM\n}",
		"forward_auth behind":           "route {\n messenger_auth support\n forward_auth UPSTREAM {\n uri /x\n }\n reverse_proxy UPSTREAM\n}",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, up, m.messengers, site)
			for announce, trailers := range map[string]string{
				"X-Contact-Identity": "X-Contact-Identity: evil\r\n",
				"":                   "X-Contact-Identity: evil\r\n",
			} {
				g.chunked("/a", announce, trailers, token)
				seen := up.take()
				if len(seen) == 0 || strings.HasPrefix(name, "a second") && len(seen) != 2 {
					t.Errorf("%d requests came", len(seen))
				}
				for i, r := range seen {
					if len(r.trailer) != 0 || r.header.Get("Trailer") != "" {
						t.Errorf("announced %q: request %d had the trailers %v", announce, i, r.trailer)
					}
				}
			}
		})
	}
}
