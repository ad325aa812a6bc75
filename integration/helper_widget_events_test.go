package integration

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answer sets what requests for event streams get: a status and headers, separated by blanks, and after a line break the body. A
// stream is sent in pieces where the body has a |, and stays open if it ends with one.
func (s *helperSite) answer(answers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.answers = nil, answers
}

func (s *helperSite) serveEvents(w http.ResponseWriter, r *http.Request) {
	s.see(r)
	s.mu.Lock()
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	head, body, _ := strings.Cut(answer, "\n")
	status, headers, _ := strings.Cut(head, " ")
	w.Header().Set("Content-Type", "text/event-stream")
	for _, field := range strings.Fields(headers) {
		name, value, _ := strings.Cut(field, "=")
		w.Header().Set(name, value)
	}
	code, _ := strconv.Atoi(status)
	w.WriteHeader(code)
	pieces := strings.Split(body, "|")
	for i, piece := range pieces {
		_, _ = io.WriteString(w, piece)
		_ = http.NewResponseController(w).Flush()
		if i < len(pieces)-1 && pieces[i+1] != "" {
			time.Sleep(time.Millisecond) // so that pieces arrive apart, most of the time
		}
	}
	if len(pieces) > 1 && pieces[len(pieces)-1] == "" {
		<-r.Context().Done()
	}
}

// serveTicket answers with a ticket that no other answer has, unless the next answer is a refusal.
func (s *helperSite) serveTicket(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Header.Set("Test-Body", string(body))
	s.see(r)
	s.mu.Lock()
	number := len(s.seen)
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"ticket": "t-%d", "expires_in": 30}`, number)
}

func (s *helperSite) see(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
}

// requests returns what was seen since the last answer was set.
func (s *helperSite) requests(t *testing.T, atLeast int) []*http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) < atLeast {
		t.Fatalf("only %d requests were made", len(s.seen))
	}
	return s.seen
}
