package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every query of the dashboard and of the alert rules asks for metrics and labels that there are.
func TestDashboardAndAlertsQueryExistingMetrics(t *testing.T) {
	documented := documentedMetrics(t)
	codes := regexp.MustCompile("<a id=\"(\\w+)\"></a>`").FindAllStringSubmatch(docsPage(t, "errors"), -1)
	known := map[string]bool{"verified": true}
	for _, code := range codes {
		known[code[1]] = true
	}
	checkQuery := func(where, query string) {
		t.Helper()
		names := regexp.MustCompile(`\b(`+metricPrefix+`\w+)(\{[^}]*\})?`).FindAllStringSubmatch(query, -1)
		if len(names) == 0 {
			t.Errorf("%s: %q asks for no metric of ours", where, query)
		}
		labels := make(map[string]bool)
		for _, found := range names {
			metric, ok := documented[strings.TrimSuffix(found[1], "_bucket")]
			if base := strings.TrimSuffix(found[1], "_bucket"); !ok || (base != found[1]) != (metric.kind == "histogram") {
				t.Errorf("%s: there is no %s", where, found[1])
				continue
			}
			for _, label := range append(metric.labels, "instance", "job", "le") {
				labels[label] = true
			}
			for _, pair := range regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"([^"]*)"`).FindAllStringSubmatch(found[2], -1) {
				if !strings.Contains(","+strings.Join(metric.labels, ",")+",", ","+pair[1]+",") {
					t.Errorf("%s: %s has no label %s", where, found[1], pair[1])
				}
				for code := range strings.SplitSeq(pair[2], "|") {
					if pair[1] == "code" && !known[code] {
						t.Errorf("%s: there is no code %s", where, code)
					}
				}
			}
			if rated := regexp.MustCompile(`(rate|increase)\(` + found[1] + `\b`).MatchString(query); rated != (metric.kind != "gauge") {
				t.Errorf("%s: %s is a %s", where, found[1], metric.kind)
			}
		}
		for _, by := range regexp.MustCompile(`\bby \(([^)]*)\)`).FindAllStringSubmatch(query, -1) {
			for label := range strings.SplitSeq(by[1], ",") {
				if !labels[strings.TrimSpace(label)] {
					t.Errorf("%s: %q groups by %s, which none of its metrics has", where, query, label)
				}
			}
		}
		if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
			t.Errorf("%s: %q is not balanced", where, query)
		}
	}
	folder := filepath.Join("..", "caddymodule", "monitoring")
	text, err := os.ReadFile(filepath.Join(folder, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("dashboard.json: %v", err)
	}
	asked := ""
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			checkQuery("dashboard.json, "+panel.Title, target.Expr)
			asked += target.Expr + " "
		}
	}
	for name := range documented {
		if !strings.Contains(asked, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	text, err = os.ReadFile(filepath.Join(folder, "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?s)- alert: (\w+)\n +expr: (?:>-\n)?(.*?)\n +(?:for|labels):`).FindAllStringSubmatch(string(text), -1)
	if len(rules) == 0 || len(rules) != strings.Count(string(text), "- alert:") {
		t.Fatalf("alerts.yml has %d alerts, and %d can be read", strings.Count(string(text), "- alert:"), len(rules))
	}
	for _, rule := range rules {
		checkQuery("alerts.yml, "+rule[1], strings.Join(strings.Fields(rule[2]), " "))
	}
}
