package auth

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// The values of websocket_rejection.
const (
	rejectionClose  = "close"
	rejectionStatus = "status"
)

// closeWait is how long a refused client may take to close its side.
const closeWait = time.Second

// maxProtocol is the longest subprotocol that an answer selects, in bytes. Tokens are longer: the token of a client that
// forgot its marker must not be repeated in an answer.
const maxProtocol = 64

func (h *Handler) checkRejection() error {
	if slices.Contains([]string{"", rejectionClose, rejectionStatus}, h.WebSocketRejection) {
		return nil
	}
	return fmt.Errorf("websocket_rejection %q is not one of: close, status", h.WebSocketRejection)
}

// closeHandshake completes a handshake and closes the WebSocket at once with the code of info, because a browser hides the
// answer to a failed handshake from the page. It returns false if r is not a complete handshake, and has written nothing then.
func closeHandshake(w http.ResponseWriter, r *http.Request, info authn.CodeInfo) bool {
	header := w.Header()
	frame := session.CloseFrame(session.Ending{Code: info.Close, Reason: string(info.Code)})
	answer := http.StatusOK
	if r.Method != http.MethodConnect {
		accept, ok := acceptKey(r)
		if !ok {
			return false
		}
		answer = http.StatusSwitchingProtocols
		header["Upgrade"], header["Connection"] = []string{"websocket"}, []string{"Upgrade"}
		header["Sec-Websocket-Accept"] = []string{accept}
	}
	if protocol := offeredProtocol(r); protocol != "" {
		header["Sec-Websocket-Protocol"] = []string{protocol}
	}
	w.WriteHeader(answer)
	control := http.NewResponseController(w)
	if answer == http.StatusOK {
		// Errors are ignored: the client is gone, or the deadline closes it.
		_ = control.SetWriteDeadline(time.Now().Add(closeWait))
		_, _ = w.Write(frame)
		_ = control.Flush()
		_ = control.SetReadDeadline(time.Now().Add(closeWait))
		session.AwaitClose(r.Body)
		_ = control.SetWriteDeadline(time.Time{})
		return true
	}
	conn, buffered, err := control.Hijack()
	if err != nil {
		return true // the head was written
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(closeWait))
	if _, err := conn.Write(frame); err == nil {
		session.AwaitClose(buffered)
	}
	return true
}

// acceptKey returns the answer to the key of a handshake over HTTP/1.1 (RFC 6455 section 4.2.2).
func acceptKey(r *http.Request) (string, bool) {
	key := r.Header.Get("Sec-Websocket-Key")
	if nonce, err := base64.StdEncoding.DecodeString(key); err != nil || len(nonce) != 16 || r.Header.Get("Sec-Websocket-Version") != "13" {
		return "", false
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:]), true
}

// offeredProtocol returns the first subprotocol that the client offers. A browser accepts only an answer that selects one of
// the subprotocols that it offered.
func offeredProtocol(r *http.Request) string {
	first, _, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ",")
	if first = strings.Trim(first, " \t"); len(first) > maxProtocol {
		return ""
	}
	return first
}
