package integration

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every link of the documentation that stays in the repository leads to a file that is there, and to a heading or an anchor
// in it. Nothing is written outside of a heading's section that its page's contents do not list.
func TestDocsLinksHaveTargets(t *testing.T) {
	pages := append(allPages(t), "../.github/CONTRIBUTING.md", "../.github/SECURITY.md")
	anchors := make(map[string]map[string]bool)
	texts := make(map[string]string)
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = withoutCode(string(text))
		anchors[path] = anchorsOf(texts[path])
	}
	links := 0
	for path, text := range texts {
		for _, found := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
				if _, err := os.Stat(to); err != nil {
					t.Errorf("%s: the link %s leads nowhere", path, found[1])
					continue
				}
			}
			if known, ok := anchors[to]; anchor != "" && (!ok || !known[anchor]) {
				t.Errorf("%s: the link %s has an anchor that is not there", path, found[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// A page begins with what it is for, and with links to all of its sections.
func TestDocsPagesBeginWithTheirContents(t *testing.T) {
	for _, path := range allPages(t)[1:] {
		name := filepath.Base(path)
		if name == "CHANGELOG.md" {
			continue // in the order of time
		}
		text := withoutCode(docsPage(t, strings.TrimSuffix(name, ".md")))
		head, _, _ := strings.Cut(text, "\n## ")
		lines := strings.SplitN(head, "\n", 4)
		if len(lines) < 4 || !strings.HasPrefix(lines[0], "# ") || lines[1] != "" || lines[2] == "" {
			t.Errorf("%s does not begin with a title and what it is for", name)
		}
		for _, heading := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(head, "](#"+anchorOf(heading[1])+")") {
				t.Errorf("%s: the contents do not list %q", name, heading[1])
			}
		}
	}
}

// Every drawing is in a page, has a title and a description, and colours for light and for dark pages. Where it is shown, its content
// is told in words as well.
func TestDocsDrawings(t *testing.T) {
	files, err := filepath.Glob(docsFolder + "*.svg")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no drawings: %v", err)
	}
	var all strings.Builder
	for _, path := range allPages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var drawing struct {
			Title string `xml:"title"`
			Desc  string `xml:"desc"`
			Style string `xml:"style"`
		}
		if err := xml.Unmarshal(text, &drawing); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if drawing.Title == "" || len(drawing.Desc) < 100 || !strings.Contains(drawing.Style, "prefers-color-scheme:dark") || len(text) > 8<<10 {
			t.Errorf("%s lacks a title, a description or colours for dark pages, or is large", file)
		}
		if !regexp.MustCompile(`!\[[^\]]{50,}\]\((caddymodule/docs/)?` + regexp.QuoteMeta(filepath.Base(file)) + `\)`).MatchString(all.String()) {
			t.Errorf("no page shows %s with its content in words", file)
		}
	}
}

// A newcomer reads the README in one sitting.
func TestDocsReadmeIsShort(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines > 250 {
		t.Errorf("the README has %d lines, want at most 250", lines)
	}
	for _, path := range allPages(t)[1:] {
		if target := strings.TrimPrefix(path, "../"); !strings.Contains(string(text), "]("+target+")") {
			t.Errorf("the README has no link to %s", target)
		}
	}
}

// withoutCode leaves out fenced blocks and code within a line, whose brackets are no links.
func withoutCode(text string) string {
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllStringFunc(text, func(code string) string { return strings.NewReplacer("](", "", "`", "").Replace(code) })
}

func anchorsOf(text string) map[string]bool {
	anchors := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#{1,6} (.+)$`).FindAllStringSubmatch(text, -1) {
		anchors[anchorOf(heading[1])] = true
	}
	for _, id := range regexp.MustCompile(`<a id="([^"]+)"></a>`).FindAllStringSubmatch(text, -1) {
		anchors[id[1]] = true
	}
	return anchors
}

// anchorOf is how GitHub names a heading.
func anchorOf(heading string) string {
	heading = regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}
