package authn

import "slices"

// fewTexts is how many texts of a set are compared one by one, which is faster than a map for the usual one or two.
const fewTexts = 8

// A textSet is a list of distinct texts for fast look-ups. A token has up to a thousand names or audiences, and the owner of a
// stored messenger chooses the list: comparing each with each would cost the product of both.
type textSet struct {
	list  []string
	large map[string]struct{} // nil if they are few
}

func newTextSet(list []string) textSet {
	s := textSet{list: list}
	if len(list) > fewTexts {
		s.large = make(map[string]struct{}, len(list))
		for _, text := range list {
			s.large[text] = struct{}{}
		}
	}
	return s
}

func (s *textSet) has(text []byte) bool {
	if s.large == nil {
		return slices.Contains(s.list, string(text))
	}
	_, found := s.large[string(text)]
	return found
}
