package integration

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// serveStreams answers with a stream of a kind that the path names, until the client goes:
// /events all the time, in pieces; /quiet one event; /download no events; /sized with a length.
func serveStreams(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w).Flush
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	switch {
	case strings.HasSuffix(r.URL.Path, "/quiet"):
		_, _ = fmt.Fprint(w, "data: 0 of 0\n\n")
		_ = flush()
		<-r.Context().Done()
	case strings.HasSuffix(r.URL.Path, "/download"):
		w.Header().Set("Content-Type", "application/octet-stream")
		for range 40 {
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1000)); err != nil {
				return
			}
			_ = flush()
			time.Sleep(100 * time.Millisecond)
		}
	case strings.HasSuffix(r.URL.Path, "/sized"):
		w.Header().Set("Content-Length", "40000")
		for range 40 {
			if _, err := fmt.Fprint(w, strings.Repeat("x", 1000)); err != nil {
				return
			}
			_ = flush()
			time.Sleep(100 * time.Millisecond)
		}
	default:
		for i := 0; r.Context().Err() == nil; i++ {
			text := strings.Repeat("x", 2000)
			for _, piece := range []string{fmt.Sprintf("id: %d\nda", i), "ta: " + text, fmt.Sprintf("\ndata: end of %d\n", i), "\n"} {
				if _, err := fmt.Fprint(w, piece); err != nil {
					return
				}
				_ = flush()
				time.Sleep(time.Millisecond)
			}
		}
	}
}
