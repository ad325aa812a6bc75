// A WebSocket to a chat behind messenger_auth that outlives its tokens. Host this file on your own site:
//
//   import { connect } from './messenger-auth.js'
//   const chat = connect({ url, protocols: ['chat.v1'], marker: 'jwt', token, onopen, onmessage, onclose })
//   chat.send(data); chat.close()
//
// token returns a fresh token, or a promise of one. Before it expires, a second socket opens and takes over, and then the
// first is closed; onopen is called again. onclose({ code, reason, retrying }) says why a socket was closed or refused.
// What is sent meanwhile waits for the next one.

const RETRIED = [1001, 1006, 1012, 1013, 4401, 4408] // a fresh token does not mend others
const SETTLE = 300 // ms in which "websocket_rejection close" refuses a socket that opened

// lifetime returns the seconds for which a token is good, or Infinity.
function lifetime(token) {
  try {
    const { exp, iat } = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))
    return exp ? exp - (iat ?? Date.now() / 1000) : Infinity
  } catch {
    return Infinity // the gateway says what is wrong with it
  }
}

export function connect({ url, protocols = [], marker = 'jwt', token, onopen, onmessage, onclose }) {
  let current, timer, opening, closed
  let failures = 0
  const waiting = []

  function later(ms, action) {
    clearTimeout(timer)
    timer = setTimeout(action, Math.min(ms, 2 ** 31 - 1))
  }

  function retry() {
    if (!closed && !opening) later(Math.min(30, 2 ** failures++) * (500 + Math.random() * 500), open)
  }

  function failed(code, reason) {
    const retrying = !closed && (code === 0 || RETRIED.includes(code))
    onclose?.({ code, reason, retrying })
    if (retrying) retry()
  }

  async function open() {
    opening = true
    let text, socket
    try {
      text = await token()
      if (closed) return
      socket = new WebSocket(url, [...protocols, marker, text])
    } catch (error) {
      opening = false
      return failed(0, String(error))
    }
    socket.onmessage = (event) => {
      failures = 0
      onmessage?.(event)
    }
    socket.onopen = () => (current ? setTimeout(takeOver, SETTLE, socket, text) : takeOver(socket, text))
    socket.onclose = ({ code, reason }) => {
      if (socket.left) return
      if (socket === current) current = undefined
      else opening = false
      failed(code, reason)
    }
  }

  function takeOver(socket, text) {
    if (closed) return leave(socket)
    if (socket.readyState !== 1) return
    leave(current)
    current = socket
    opening = false
    while (waiting.length) socket.send(waiting.shift())
    const life = lifetime(text)
    if (life < Infinity) later(Math.max(life * 800, 1000), open)
    onopen?.()
  }

  function leave(socket) {
    if (!socket) return
    socket.left = true
    socket.close(1000)
  }

  open()
  return {
    send: (data) => (current?.readyState === 1 ? current.send(data) : waiting.push(data)),
    close() {
      closed = true
      clearTimeout(timer)
      leave(current)
    },
  }
}
