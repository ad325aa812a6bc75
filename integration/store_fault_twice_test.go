package integration

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A storage is emptied. Before the node that knows a messenger is told to write it back, another node gets it from an export, or creates
// it anew, and acknowledges changes. Nothing that was acknowledged on either node is lost when the first one is repaired.
func TestRepairNextToAReimportedMessenger(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		for _, how := range []string{"imported", "created anew"} {
			t.Run(how, func(t *testing.T) {
				c := newFaultCluster(t, storage, clusterSettings{nodes: 1})
				a := c.nodes[0]
				key := storeKeyFile(t)
				a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
				live, leaked := a.generate("acme"), a.generate("acme")
				s1, s2 := a.generate("support"), a.generate("support")
				secrets := map[string]any{"key": strings.TrimSpace(readText(t, key))}
				var file struct{ Lines []json.RawMessage }
				decode(t, a.mustCall("exporting", http.MethodPost, "export", secrets).body, &file)
				for name, kid := range map[string]string{"acme": leaked.KID, "support": s2.KID} {
					a.mustCall("revoking", http.MethodPost, "messengers/"+name+"/tokens/revoke", map[string]any{"kid": kid})
					a.mustCall("revoking", http.MethodPost, "messengers/"+name+"/revocations", map[string]any{"jti": "stolen"})
				}
				c.empty()
				a.checkWentBack(t)
				b := c.add(clusterSettings{})
				b.run()
				if how == "imported" {
					secrets["lines"] = file.Lines
					b.mustCall("importing", http.MethodPost, "import", secrets)
				} else {
					b.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
				}
				made := b.generate("acme")
				b.mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"jti": "other"})
				b.mustCall("revoking", http.MethodPost, "messengers/acme/revocations", map[string]any{"identity": "mallory", "issued_before": time.Now().Add(time.Hour).UTC()})
				ran := newShell(t).messenger("", expected.repairCommand, "--address", "unix/"+a.gateway.sock)
				if how == "created anew" {
					if ran.status != 1 || !strings.Contains(ran.err, "acme: not written back, because the storage has another messenger") {
						t.Errorf("the repair ended with %d\n%s%s", ran.status, ran.out, ran.err)
					}
					for _, n := range []*node{b, c.add(clusterSettings{})} {
						if n != b {
							n.run()
						}
						for token, want := range map[string]string{sign(made.Token, contact("ann", "a")): "200", sign(made.Token, contact("ann", "other")): "401 token_revoked"} {
							if got := n.verdict("/m/acme/x", token); got != want {
								t.Errorf("the messenger that was created anew: %s, want %s", got, want)
							}
						}
					}
					return
				}
				if ran.status != 0 {
					t.Fatalf("the repair ended with %d\n%s%s", ran.status, ran.out, ran.err)
				}
				c.add(clusterSettings{}).run()
				for _, v := range []struct{ what, want, path, token string }{
					{"a token of before", "200", "/m/acme/x", sign(live.Token, contact("ann", "a"))},
					{"one that was made afterwards", "200", "/m/acme/x", sign(made.Token, contact("ann", "a"))},
					{"a shared token that was revoked before", "401 signature_invalid", "/m/acme/x", sign(leaked.Token, contact("ann", "a"))},
					{"a token that was revoked before", "401 token_revoked", "/m/acme/x", sign(live.Token, contact("ann", "stolen"))},
					{"one that was revoked afterwards", "401 token_revoked", "/m/acme/x", sign(live.Token, contact("ann", "other"))},
					{"the same with the other key", "401 token_revoked", "/m/acme/x", sign(made.Token, contact("ann", "other"))},
					{"a contact who was revoked afterwards", "401 token_revoked", "/m/acme/x", sign(live.Token, contact("mallory", "m"))},
					{"of a configured messenger", "200", "/", sign(s1.Token, contact("ann", "a"))},
					{"its shared token that was revoked before", "401 signature_invalid", "/", sign(s2.Token, contact("ann", "a"))},
					{"its token that was revoked before", "401 token_revoked", "/", sign(s1.Token, contact("ann", "stolen"))},
				} {
					c.everywhere(v.what, v.want, v.path, v.token)
				}
			})
		}
	})
}
