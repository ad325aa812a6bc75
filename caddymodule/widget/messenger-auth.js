// Connections to a chat behind messenger_auth that outlive their tokens: WebSockets, event streams, and addresses with a ticket.
// docs/connections.md of the gateway describes them. Nothing that this file tells the page has a part of a token in it.
//
// It is written to be small: messenger-auth.min.js is made of it by esbuild, and has at most 4 KiB.

// codes: the tests write this from the table in caddymodule/internal/authn
// Refusals that may go away with another token or ticket:
// key_unknown, token_expired, token_not_yet_valid, token_revoked, ticket_invalid, ticket_expired, ticket_used,
// and the script's own reasons token_unavailable, token_invalid, timeout.
const FIXABLE = /^(token_(exp|not|rev|una|inv)|ticket_[eui]|key_u|timeout)/
// end of codes
// Close codes and HTTP statuses that say "later".
const RETRIED = /^(100[16]|101[23]|44(08|29)|429|50\d)$/
const SETTLE = 300 // ms in which a socket that opened may be refused
const LIMIT = 30000 // ms to open a connection, and for it to be stable
const ROOM = 2 ** 20 // bytes of messages that wait
const WAKING = ['online', 'visibilitychange']

const nothing = () => {}

// word returns a code word, and nothing that could be a part of a token.
const word = (text) => (/^[a-z_]*$/.test(text) ? text : '')

// tell calls a function of the page, whose errors are the page's.
function tell(callback, event) {
  try {
    callback?.(event)
  } catch (error) {
    reportError(error)
  }
}

// What is thrown as a list is a code, a reason, and how many seconds to wait. Any other error may quote the token.

async function request(address, options) {
  const response = await fetch(address, { ...options, cache: 'no-store' }).catch(nothing)
  if (!response) throw [1006]
  if (response.ok) return response
  const problem = await response.json().catch(nothing)
  throw [response.status, word(problem?.code), +response.headers.get('Retry-After') || 0] // 0 for a date
}

// prepare gets a token from the page, and returns it with the address of a connection, which has a ticket if that is wanted.
async function prepare({ url, token, ticket, parameter = 'ticket' }, signal) {
  const address = new URL(url, location)
  let text
  try {
    text = String(await token()).trim()
  } catch {
    throw [0, 'token_unavailable']
  }
  if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)) throw [0, 'token_invalid']
  if (ticket) {
    const desk = new URL(ticket === true ? '/ticket' : ticket, address)
    desk.protocol = desk.protocol.replace('ws', 'http')
    const response = await request(desk, {
      method: 'POST',
      headers: { Authorization: 'Bearer ' + text },
      body: JSON.stringify({ path: address.pathname }),
      signal
    })
    address.search += `${address.search && '&'}${parameter}=${(await response.json()).ticket}`
  }
  return [address, text]
}

// renewal returns after how many ms a token should be replaced.
function renewal(token) {
  let life
  try {
    const { exp, iat } = JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))
    life = exp - (iat ?? Date.now() / 1000)
  } catch {}
  return life > 0 ? Math.max(life * 800, 1000) : Infinity
}

// link keeps one connection. dial opens it for each attempt: it calls opened when it is open, failed when it is not any more, and
// stops when the signal says so. With overlap, the next connection is opened before the token expires, and then the last one is
// stopped. link returns a function that ends it all, and one that reports whether it has ended.
function link(options, overlap, dial) {
  let current, next, timer, due, since, ended
  let failures = 0, refusals = 0

  // later sets what happens next. wake may do it before, but not before earliest.
  function later(ms, action, earliest = ms) {
    clearTimeout(timer)
    due = Date.now() + earliest
    timer = setTimeout(action, Math.min(ms, 2 ** 31 - 1))
  }

  function close() {
    ended = true
    clearTimeout(timer)
    for (const type of WAKING) removeEventListener(type, wake)
    current && current.abort()
    next && next.abort()
    current = next = 0
  }

  // The network is there again, or a user looks at the page, whose timers may be late.
  function wake({ type }) {
    const online = type === 'online'
    if (!next && (online || !document.hidden) && ((online && current) || Date.now() > due)) open()
  }

  function failed(attempt, code, reason = '', wait = 0) {
    if (attempt === next) next = 0
    else if (attempt !== current) return
    else {
      current = 0
      if (Date.now() - since > LIMIT) failures = 0
    }
    attempt.abort()
    const refused = !code || code % 4000 === 401
    let again = refused ? FIXABLE.test(reason) || (code === 401 && !reason) : RETRIED.test(code)
    if (refused && (code || reason === 'token_invalid')) again &&= ++refusals < 10
    if (code === 4429) failures ||= 4
    wait *= 1000
    if (again && !next) later(wait + Math.min(30, 2 ** failures++) * (500 + Math.random() * 500), open, code === 4429 ? Infinity : wait)
    if (!again && !current) close()
    tell(options.onclose, { code, reason, retrying: !ended })
  }

  async function open() {
    const attempt = (next = new AbortController())
    const fail = failed.bind(0, attempt)
    if (!overlap && current) current = current.abort()
    later(LIMIT, () => fail(0, 'timeout'))
    try {
      const [address, text] = await prepare(options, attempt.signal)
      const opened = (ms, taken) => {
        if (attempt !== next) return
        if (ms) return later(ms, () => opened(0, taken))
        if (current) failures = 0
        current && current.abort()
        current = attempt
        next = refusals = 0
        since = Date.now()
        later(overlap ? renewal(text) : Infinity, open)
        taken?.()
        tell(options.onopen)
      }
      if (attempt === next) await dial(address, text, attempt.signal, opened, fail)
    } catch (error) {
      fail(...(Array.isArray(error) ? error : attempt === next ? [0, 'options_invalid'] : [1006]))
    }
  }

  for (const type of WAKING) addEventListener(type, wake)
  open()
  return [close, () => ended]
}

// connect opens a WebSocket.
export function connect(options) {
  const { protocols = [], marker = 'jwt', ticket, onmessage } = options
  const leaving = new Set()
  let socket, queue = [], queued = 0

  const [close, ended] = link(options, true, (address, text, signal, opened, fail) => {
    const mine = new WebSocket(address, ticket ? protocols : [...protocols, marker, text])
    const taken = () => {
      if (socket?.readyState < 3) {
        leaving.add(socket)
        setTimeout(left, 1000, socket)
      }
      socket = mine
      left()
    }
    signal.onabort = () => mine.close(1000)
    mine.onopen = () => opened(SETTLE, taken)
    mine.onmessage = (event) => {
      opened(0, taken)
      ended() || tell(onmessage, event)
    }
    mine.onclose = ({ code, reason }) => (leaving.has(mine) ? left(mine) : fail(code, word(reason)))
  })

  // What waited goes out when all earlier sockets have closed, so that it arrives in order.
  function left(old) {
    leaving.delete(old)
    if (leaving.size || socket.readyState !== 1) return
    for (const data of queue) socket.send(data)
    queue = []
    queued = 0
  }

  function send(data) {
    if (ended()) return false
    if (socket?.readyState === 1 && !leaving.size) {
      const room = socket.bufferedAmount <= ROOM
      if (room) socket.send(data)
      return room
    }
    const binary = data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data)
    data = binary ? new Blob([data]) : String(data) // a copy: it may change
    const size = 100 + (data.size ?? data.length)
    const room = queued + size <= ROOM
    if (room) {
      queued += size
      queue.push(data)
    }
    return room
  }

  return { send, close }
}

// events reads an event stream.
export function events(options) {
  const { ticket, onmessage } = options
  let id = options.lastEventId ?? '', wait

  const [close, ended] = link(options, false, async (address, text, signal, opened, fail) => {
    const headers = { Accept: 'text/event-stream' }
    if (!ticket) headers.Authorization = 'Bearer ' + text
    if (id) headers['Last-Event-ID'] = unescape(encodeURIComponent(id)) // its bytes in UTF-8
    const response = await request(address, { headers, signal })
    if (response.status > 200 || !/^text\/event-s/i.test(response.headers.get('Content-Type'))) throw 0
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    opened()
    let rest = '', data = '', type = '', last = id, end = ''
    for (let chunk, half; !(chunk = await reader.read()).done; half = chunk.value.endsWith('\r')) {
      // A \r at the end of the last chunk and a \n now are one line break.
      const lines = (rest + chunk.value.slice(half && chunk.value[0] === '\n')).split(/\r\n?|\n/)
      rest = lines.pop()
      for (const line of lines) {
        const [, field, text] = /^([^:]*):? ?(.*)/s.exec(line)
        if (field === 'data') data += text + '\n'
        if (field === 'event') type = text
        if (field === 'id' && !text.includes('\0')) last = text
        if (field === 'retry' && !/\D/.test(text)) wait = text / 1000
        if (line || signal.aborted) continue
        id = last
        end = type === 'auth' ? word(data.trim()) : ''
        if (data) tell(onmessage, { type: type || 'message', data: data.slice(0, -1), lastEventId: id })
        data = type = ''
      }
    }
    fail({ token_expired: 4401, token_revoked: 4403 }[end] ?? (end ? 1013 : 1006), end, wait)
  })

  return { close }
}

// withTicket returns an address with a fresh ticket, for an image, a download, an EventSource, or whatever else opens it once.
export async function withTicket(options) {
  try {
    return String((await prepare({ ticket: true, ...options }))[0])
  } catch (error) {
    throw new Error(error[1] || 'ticket_unavailable')
  }
}
