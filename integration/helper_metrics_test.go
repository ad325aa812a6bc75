package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// families are the metrics of a gateway by name.
type families map[string]*dto.MetricFamily

const metricPrefix = "caddy_messenger_auth_"

// families parses what the gateway tells Prometheus, as Prometheus does, and keeps the metrics of ours. No series may be
// there twice.
func (g *gateway) families() families {
	g.t.Helper()
	resp, err := g.adminClient().Get("http://caddy/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("/metrics: %v %d %s", err, resp.StatusCode, text)
	}
	search.add("metrics", text)
	all, err := parseFamilies(text)
	if err != nil {
		g.t.Fatal(err)
	}
	for name, family := range all {
		seen := make(map[string]bool)
		for _, metric := range family.GetMetric() {
			if series := labelsOf(metric); seen[series] {
				g.t.Errorf("%s{%s} is there twice", name, series)
			} else {
				seen[series] = true
			}
		}
	}
	return all
}

func parseFamilies(text []byte) (families, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, metricPrefix) })
	return all, err
}

func labelsOf(metric *dto.Metric) string {
	var pairs []string
	for _, pair := range metric.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// value sums up the series of a metric whose labels have these pairs, such as code="verified".
func (f families) value(name string, pairs ...string) (sum float64) {
	for _, metric := range f[metricPrefix+name].GetMetric() {
		labels := "," + labelsOf(metric)
		if slices.ContainsFunc(pairs, func(pair string) bool { return !strings.Contains(labels, ","+pair) }) {
			continue
		}
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

// series are all series, with the values of those that may never go back.
func (f families) series() map[string]float64 {
	series := make(map[string]float64)
	for name, family := range f {
		for _, metric := range family.GetMetric() {
			id := name + "{" + labelsOf(metric) + "}"
			series[id] = metric.GetCounter().GetValue()
			if h := metric.GetHistogram(); h != nil {
				series[id] = float64(h.GetSampleCount())
				series[id+" sum"] = h.GetSampleSum()
				for _, bucket := range h.GetBucket() {
					series[fmt.Sprint(id, " ", bucket.GetUpperBound())] = float64(bucket.GetCumulativeCount())
				}
			}
		}
	}
	return series
}

// A documented metric is a row of the table.
type documentedMetric struct {
	kind, unit string
	labels     []string
}

func documentedMetrics(t *testing.T) map[string]documentedMetric {
	t.Helper()
	documented, err := parseMetrics(docsPage(t, "monitoring"))
	if err != nil {
		t.Fatal(err)
	}
	return documented
}

func parseMetrics(text string) (map[string]documentedMetric, error) {
	_, section, _ := strings.Cut(text, "<!-- metrics -->\n")
	section, _, _ = strings.Cut(section, "\n\n")
	documented := make(map[string]documentedMetric)
	for _, row := range regexp.MustCompile("(?m)^\\| `("+metricPrefix+"\\w+)` \\| (\\w+) \\| ([\\w ]*) ?\\| ([^|]*)\\| [^|]+ \\|$").FindAllStringSubmatch(section, -1) {
		m := documentedMetric{kind: row[2], unit: strings.TrimSpace(row[3])}
		for _, label := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[4], -1) {
			m.labels = append(m.labels, label[1])
		}
		slices.Sort(m.labels)
		documented[row[1]] = m
	}
	if rows := strings.Count(section, "| `"+metricPrefix); rows == 0 || rows != len(documented) {
		return nil, fmt.Errorf("the table of metrics has %d rows, and %d can be read", rows, len(documented))
	}
	return documented, nil
}

// check compares what was found with what is documented. What nobody caused is not missed unless all is wanted.
func (f families) check(documented map[string]documentedMetric, all bool) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for name := range f {
		if _, ok := documented[name]; !ok {
			complain("the table has no %s", name)
		}
	}
	for name, want := range documented {
		family := f[name]
		if family == nil {
			if all {
				complain("there is no %s", name)
			}
			continue
		}
		if got := strings.ToLower(family.GetType().String()); got != want.kind {
			complain("%s is a %s, and the table says %s", name, got, want.kind)
		}
		if seconds := strings.HasSuffix(name, "_seconds"); seconds != (want.unit == "seconds") {
			complain("%s has the unit %q in the table", name, want.unit)
		}
		if total := strings.HasSuffix(name, "_total"); total != (want.kind == "counter") {
			complain("%s is a %s by the table, and is not named so", name, want.kind)
		}
		if family.GetHelp() == "" {
			complain("%s has no help", name)
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, pair := range metric.GetLabel() {
				labels = append(labels, pair.GetName())
			}
			if slices.Sort(labels); !slices.Equal(labels, want.labels) {
				complain("%s has the labels %q, and the table says %q", name, labels, want.labels)
			}
		}
	}
	return complaints
}

// suiteMetrics are those that the gateways of this process had at their ends.
var suiteMetrics = make(families)

// keepMetrics adds what a gateway tells Prometheus at its end to the search for secrets, and to suiteMetrics. A gateway
// that has stopped already tells nothing.
func (g *gateway) keepMetrics() {
	resp, err := g.adminClient().Get("http://caddy/metrics")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return
	}
	search.add("metrics", text)
	found, err := parseFamilies(text)
	if err != nil {
		g.t.Errorf("the metrics at the end: %v", err)
	}
	maps.Copy(suiteMetrics, found)
	if os.Getenv(aloneVariable) != "" { // the process that runs the whole suite reads them
		name := fmt.Sprintf("metrics-%d-%s", os.Getpid(), filepath.Base(g.sock)) // a socket's name is given once
		if err := os.WriteFile(filepath.Join(sharedDir, name), text, 0o600); err != nil {
			g.t.Error(err)
		}
	}
}

// metricsOfOthers returns those that the gateways of tests in other processes had at their ends.
func metricsOfOthers() (families, error) {
	others := make(families)
	names, err := filepath.Glob(filepath.Join(sharedDir, "metrics-*"))
	for _, name := range names {
		text, readErr := os.ReadFile(name)
		found, parseErr := parseFamilies(text)
		err = errors.Join(err, readErr, parseErr)
		maps.Copy(others, found)
	}
	return others, err
}
