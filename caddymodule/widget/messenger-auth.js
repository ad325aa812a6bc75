// A WebSocket to a chat behind messenger_auth that outlives its tokens. Host this file on your own site; see the
// gateway's README.

const FIXABLE = /^(token_(expired|not_yet_valid|revoked|unavailable|invalid)|key_unknown|timeout)$/
const RETRIED = [1001, 1006, 1012, 1013, 4408, 4429]
const SETTLE = 300 // ms in which a socket that opened may be refused
const LIMIT = 30000 // ms to open a socket, and for it to be stable
const QUEUE = 2 ** 20 // bytes

function lifetime(token) {
  try {
    const { exp, iat } = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))
    const life = exp - (iat ?? Date.now() / 1000)
    return life > 0 ? life : Infinity
  } catch {
    return Infinity
  }
}

export function connect({ url, protocols = [], marker = 'jwt', token, onopen, onmessage, onclose }) {
  let current, next, leaving, timer, since, ended
  let failures = 0, refusals = 0, queued = 0, queue = []

  function later(ms, action) {
    clearTimeout(timer)
    timer = setTimeout(action, Math.min(ms, 2 ** 31 - 1))
  }

  function close() {
    ended = true
    clearTimeout(timer)
    for (const socket of [current, next?.socket]) socket?.close(1000)
    current = next = undefined
    queue = []
  }

  function failed(code, reason) {
    let again = code && code !== 4401 ? RETRIED.includes(code) : FIXABLE.test(reason)
    if (code === 4401 || reason === 'token_invalid') again &&= ++refusals < 10
    if (code === 4429) failures ||= 4
    if (again && !next) later(Math.min(30, 2 ** failures++) * (500 + Math.random() * 500), open)
    if (!again && !current) close()
    onclose?.({ code, reason, retrying: !ended })
  }

  async function open() {
    const mine = (next = {})
    const fail = (code, reason) => {
      if (next !== mine) return
      next = undefined
      mine.socket?.close()
      failed(code, reason)
    }
    later(LIMIT, () => fail(0, 'timeout'))
    let text, socket
    try {
      text = String(await token()).trim()
    } catch {
      return fail(0, 'token_unavailable')
    }
    if (next !== mine) return
    if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)) return fail(0, 'token_invalid')
    try {
      socket = mine.socket = new WebSocket(url, [...protocols, marker, text])
    } catch {
      return fail(0, 'options_invalid') // the error quotes the token
    }
    const settled = () => next === mine && socket.readyState === 1 && takeOver(socket, text)
    socket.onopen = () => next === mine && later(SETTLE, settled)
    socket.onmessage = (event) => {
      try {
        settled()
      } finally {
        if (!ended) onmessage?.(event)
      }
    }
    socket.onclose = ({ code, reason }) => {
      if (socket === leaving) return flush()
      if (!/^\w*$/.test(reason)) reason = '' // no free text
      if (socket !== current) return fail(code, reason)
      current = undefined
      if (Date.now() - since > LIMIT) failures = 0
      failed(code, reason)
    }
  }

  function takeOver(socket, text) {
    if ((leaving = current)) failures = 0
    current = socket
    next = undefined
    since = Date.now()
    refusals = 0
    later(Math.max(lifetime(text) * 800, 1000), open)
    leaving?.close(1000)
    if (leaving) setTimeout((old) => old === leaving && flush(), 1000, leaving)
    else flush()
    onopen?.()
  }

  // What waited goes out when the last socket has closed.
  function flush() {
    leaving = undefined
    if (current?.readyState !== 1) return
    for (const data of queue) current.send(data)
    queue = []
    queued = 0
  }

  function send(data) {
    if (ended || current?.bufferedAmount > QUEUE) return false
    if (current?.readyState === 1 && !leaving) return current.send(data), true
    if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) data = structuredClone(data) // it may change
    else if (!(data instanceof Blob)) data = String(data)
    const size = 100 + (data.size ?? data.byteLength ?? data.length)
    if (queued + size > QUEUE) return false
    queued += size
    queue.push(data)
    return true
  }

  open()
  return { send, close }
}
