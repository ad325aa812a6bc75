package admin

import (
	"fmt"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
)

// A gateway that does not start for the sake of something else in its configuration can still be operated: with --offline the shared
// tokens of a messenger are revoked without it.
func TestOfflineNeedsOnlyTheStorageAndTheMessengers(t *testing.T) {
	for _, rest := range []string{`"@id": 1`, `"admin": {"listen": 2019}`, `"admin": null`, `"logging": {"logs": []}`, `"unknown": {}`} {
		config := fmt.Sprintf(`{%s, "storage": {"module": "file_system", "root": %q}, "apps": {"http": 1, "messenger": {"messengers": {"support": {"identity_key": "sub", "shared_token": {}}}}}}`, rest, t.TempDir())
		s, done, err := OfflineApp([]byte(config))
		if err != nil {
			t.Errorf("with %s: %v", rest, err)
			continue
		}
		if d, err := s.Describe(t.Context(), "support"); err != nil || d.Method != "shared_token" {
			t.Errorf("with %s: got %+v, %v", rest, d, err)
		}
		done()
	}
}
