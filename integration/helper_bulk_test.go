package integration

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A bulk writes very many values into a storage, as a gateway seals them and the storage keeps them, without one that runs.
type bulk struct {
	t    testing.TB
	aead cipher.AEAD
	head []byte // of every sealed value
	put  func(key string, value []byte)
	end  func()
}

// newBulk makes a bulk for the storage of a cluster, with the key in a file.
func newBulk(t testing.TB, redis *redisServer, folder, keyFile string) *bulk {
	t.Helper()
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	b := &bulk{t: t}
	if b.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(append([]byte("messenger store key\x00"), key...))
	b.head = append([]byte("messenger-sealed-1\n"), id[:4]...)
	if redis != nil {
		b.toRedis(redis.addr)
		return b
	}
	b.put = func(key string, value []byte) {
		file := filepath.Join(folder, filepath.FromSlash(key))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.end = func() {}
	return b
}

// toRedis sends values in the form of the Redis module, many at a time.
func (b *bulk) toRedis(address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	w, r := bufio.NewWriterSize(conn, 1<<20), bufio.NewReaderSize(conn, 1<<20)
	waiting := 0
	flush := func() {
		if err := w.Flush(); err != nil {
			b.t.Fatal(err)
		}
		for ; waiting > 0; waiting-- {
			if line, err := r.ReadString('\n'); err != nil || line[0] == '-' {
				b.t.Fatalf("Redis: %s %v", line, err)
			}
		}
	}
	send := func(words ...string) {
		fmt.Fprintf(w, "*%d\r\n", len(words))
		for _, word := range words {
			fmt.Fprintf(w, "$%d\r\n%s\r\n", len(word), word)
		}
		if waiting++; waiting >= 1000 {
			flush()
		}
	}
	b.put = func(key string, value []byte) {
		key = path.Join("caddy", key)
		text, err := json.Marshal(map[string]any{"value": value, "modified": time.Now(), "size": len(value)})
		if err != nil {
			b.t.Fatal(err)
		}
		send("SET", key, string(text))
		for child, mark := key, ""; path.Dir(child) != "."; child, mark = path.Dir(child), "/" {
			send("ZADD", path.Dir(child), "1", path.Base(child)+mark)
		}
	}
	b.end = func() {
		flush()
		conn.Close()
	}
}

// seal puts a value into the storage as a gateway does.
func (b *bulk) seal(key string, value []byte) {
	b.put(key, b.aead.Seal(append([]byte(nil), b.head...), nil, value, []byte("messenger-sealed-1\n"+key)))
}

// messengers puts count copies of a messenger there, named "many0" and so on, all with the same shared token, each with more
// revocations than it had.
func (b *bulk) messengers(count, revocations int) (made sharedToken) {
	b.t.Helper()
	folder := b.t.TempDir()
	o := newNode(b.t, caddyBinary(b.t), nil, sealedOptions(folder), sealedSite)
	o.run()
	o.put("acme", generated)
	made = o.generate("acme")
	for i := range revocations {
		o.want(200, "POST", "messengers/acme/revocations", map[string]any{"jti": fmt.Sprint("present ", i)})
	}
	o.kill()
	values := files(b.t, folder)
	keys := factKeys(values, "acme")
	for i := range count {
		for _, key := range keys {
			b.seal(strings.Replace(key, "acme", fmt.Sprint("many", i), 1), values[key])
		}
	}
	b.end()
	return made
}
