package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A million names are listed and searched, by one and by eight at once. Only some are those of messengers that are whole, because a
// page reads no others. MESSENGER_SOAK=1 makes it a million, and the log has what each step takes.
func TestAMillionNames(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		count, size := 3000, 100
		if soaking() {
			count, size = 1_000_000, 1000
		}
		template := plainTemplate(t)
		var n *node
		name := func(i int) string { return fmt.Sprintf("customer-%07d", i) }
		whole := min(count/2, 10_000) // as many as can be filtered
		isWhole := func(i int) bool { return i < whole || i >= count/2 && i < count/2+1200 }
		site := "handle_path /panel* {\nbasic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel\n}\n" + clusterSite
		if storage == onRedis {
			r := startRedis(t)
			fillRedis(t, r, template, count, name, isWhole)
			n = newNode(t, caddyBinary(t), nil, manyOptions("storage redis {\n address "+r.addr+"\n}"), site)
		} else {
			folder := t.TempDir()
			fillFolder(t, folder, template, count, name, isWhole)
			n = newNode(t, caddyBinary(t), nil, manyOptions("storage file_system "+folder), site)
		}
		begun := time.Now()
		n.run()
		t.Logf("start: %s", time.Since(begun))
		step := func(what string, do func()) {
			before, _ := n.memory()
			n.resetPeak()
			begun, worked := time.Now(), n.worked()
			do()
			took := time.Since(begun)
			_, peak := n.memory()
			t.Logf("%-32s %8s, of which the gateway worked %8s; %4d MB more at the most", what, took.Round(time.Millisecond), n.worked()-worked, (peak-before)>>10)
		}
		step("first request", func() { n.gateway.expect("503 keys_unavailable", "/m/"+name(5)+"/x", sign(newSecret(), valid("mark"))) })
		step("second request", func() { n.gateway.expect("503 keys_unavailable", "/m/"+name(6)+"/x", sign(newSecret(), valid("mark"))) })
		page := func(query string, first, want int) {
			if names, _ := n.operator.listed(query); len(names) != want || want > 0 && names[0] != name(first) {
				t.Errorf("%s: got %d names, want %d from %s on", query, len(names), want, name(first))
			}
		}
		middle := fmt.Sprintf("limit=%d&after=%s", size, name(count/2-1))
		step(fmt.Sprintf("the first page, %d", size), func() { page(fmt.Sprintf("limit=%d&after=%s", size, name(0)), 1, size) })
		step(fmt.Sprintf("a page in the middle, %d", size), func() { page(middle, count/2, size) })
		step("a page of 50", func() { page("limit=50&after="+name(0), 1, 50) })
		step("search, one", func() { page("search=er-"+fmt.Sprintf("%07d", 1000), 1000, 1) })
		step("search, none", func() { page("search=nothing", 0, 0) })
		panel := n.gateway.panelOperator()
		shows := func(query string, texts ...string) func() {
			return func() { panel.get(query).says(t, 200, texts...) }
		}
		step("panel, the list with states", shows("", name(0), name(perPanelPage-1), "No key", "Next page"))
		step("panel, a page in the middle", shows("?after="+name(count/2-1), name(count/2), "No key"))
		step("panel, search, one", shows("?search=er-"+fmt.Sprintf("%07d", 1000), name(1000), "No key"))
		step("panel, search, none", shows("?search=nothing", "No messenger found"))
		filtered := "?search=er-000" + map[bool]string{true: "", false: "1"}[soaking()] + "&method=shared_token&sort=changed"
		step("panel, filter and sort", shows(filtered, "No key", "Next page"))
		step("panel, the same again", shows(filtered, "No key", "Next page"))
		for _, tab := range []string{"", "keys", "revocations", "history"} {
			step("panel, a messenger, "+tab, shows("?messenger="+name(7)+"&page="+tab, name(7)))
		}
		n.kill()
		n.run()
		step("eight at once, after a start", func() {
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					if i%2 == 0 {
						page(middle, count/2, size)
					} else {
						page("search=er-"+fmt.Sprintf("%07d", 1000+i), 1000+i, 1)
					}
				})
			}
			all.Wait()
		})
	})
}

// perPanelPage is how many stored messengers a page of the panel's list has.
const perPanelPage = 50

// plainTemplate is a messenger that was written without a store key.
func plainTemplate(t *testing.T) messengerTemplate {
	t.Helper()
	folder := t.TempDir()
	n := newNode(t, caddyBinary(t), nil, sealedOptions(folder), sealedSite)
	n.run()
	n.operator.put("acme", generated)
	n.kill()
	template, values := make(messengerTemplate), files(t, folder)
	for _, key := range factKeys(values, "acme") {
		template[strings.TrimPrefix(key, "messenger/acme/")] = values[key]
	}
	return template
}

func fillFolder(t *testing.T, folder string, template messengerTemplate, count int, name func(int) string, isWhole func(int) bool) {
	t.Helper()
	if err := os.Mkdir(path.Join(folder, "messenger"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if isWhole(i) {
			template.copyTo(t, folder, []string{name(i)})
		} else if err := os.Mkdir(path.Join(folder, "messenger", name(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// fillRedis writes what the Redis module would write: the values, and of each folder a set of what is in it.
func fillRedis(t *testing.T, r *redisServer, template messengerTemplate, count int, name func(int) string, isWhole func(int) bool) {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out bytes.Buffer
	commands := 0
	send := func(words ...string) {
		fmt.Fprintf(&out, "*%d\r\n", len(words))
		for _, word := range words {
			fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(word), word)
		}
		commands++
	}
	answers := bufio.NewReader(conn)
	flush := func() {
		if _, err := conn.Write(out.Bytes()); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		for ; commands > 0; commands-- {
			if line, err := answers.ReadString('\n'); err != nil || line[0] == '-' {
				t.Fatalf("Redis answers %q, %v", line, err)
			}
		}
	}
	names := []string{"ZADD", "caddy/messenger"}
	for i := range count {
		names = append(names, "1700000000", name(i)+"/")
		if isWhole(i) {
			for key, value := range template {
				full := path.Join("caddy/messenger", name(i), key)
				send("SET", full, mustJSON(map[string]any{"value": value, "modified": time.Unix(1700000000, 0), "size": len(value)}))
				send("ZADD", path.Dir(full), "1700000000", path.Base(full))
				send("ZADD", path.Dir(path.Dir(full)), "1700000000", "facts/")
				send("ZADD", path.Join("caddy/messenger", name(i)), "1700000000", path.Base(path.Dir(path.Dir(full)))+"/")
			}
		}
		if len(names) > 20_000 || i == count-1 {
			send(names...)
			names = names[:2]
			flush()
		}
	}
	send("ZADD", "caddy", "1700000000", "messenger/")
	flush()
}

var memoryLine = regexp.MustCompile(`(VmRSS|VmHWM):\s+(\d+) kB`)

// memory returns how many KiB the node's process has in memory, and has had at the most since resetPeak.
func (n *node) memory() (now, peak int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for _, found := range memoryLine.FindAllSubmatch(text, -1) {
		value, _ := strconv.Atoi(string(found[2]))
		if string(found[1]) == "VmRSS" {
			now = value
		} else {
			peak = value
		}
	}
	return now, peak
}

// worked returns the processor time of the node's process.
func (n *node) worked() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (n *node) resetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.cmd.Process.Pid), []byte("5"), 0o600)
}
