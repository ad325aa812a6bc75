package authn

// fewTexts is how many texts of a set are compared one by one.
const fewTexts = 8

// A textSet is a list of texts that differ, to look for others in. A token has up to a thousand names or audiences, and a
// list may be as long as an attacker likes: looking for each in all of it would be the product of both.
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
		return contains(s.list, text)
	}
	_, found := s.large[string(text)]
	return found
}
