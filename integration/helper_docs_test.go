package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const docsFolder = "../caddymodule/docs/"

// docsPage returns a page of the documentation, such as errors, as it stands in the checkout.
func docsPage(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(docsFolder + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// allPages returns the paths of the README and of every page, the README first.
func allPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(docsFolder + "*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are no pages: %v", err)
	}
	return slices.Insert(pages, 0, "../README.md")
}

// docsBlocks returns the fenced blocks of a language, of the README and of every page.
func docsBlocks(t *testing.T, language string) []string {
	t.Helper()
	var blocks []string
	for _, path := range allPages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
			blocks = append(blocks, found[1])
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("the documentation has no block of %s", language)
	}
	return blocks
}

// docsBlock returns the first fenced block of a language under a heading of a page.
func docsBlock(t testing.TB, page, heading, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)\n```" + language + "\n(.*?)```\n").FindStringSubmatch(section(docsPage(t, page), heading))
	if found == nil {
		t.Fatalf("%q of the page %s has no block of %s", heading, page, language)
	}
	return found[1]
}

// docsSample returns the program of a language that follows the mark of that name.
func docsSample(t *testing.T, name string) string {
	t.Helper()
	for _, path := range allPages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if found := regexp.MustCompile("(?s)<!-- sample: " + name + " -->\n```\\w+\n(.*?)```\n").FindSubmatch(text); found != nil {
			return string(found[1])
		}
	}
	t.Fatalf("the documentation has no sample for %s", name)
	return ""
}

// section returns what is under a heading of the second level.
func section(text, heading string) string {
	_, text, _ = strings.Cut(text, "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}
