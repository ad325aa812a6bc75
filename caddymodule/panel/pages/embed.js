// The test of the page Embed: it calls the gateway as a page with the widget does, and says what came back. The texts are in the page.
//
// The token goes to the address that the page was made for, which is the only one that the page's policy allows. It is taken out of
// the field before the first request, and is in no address, no storage and no message of this script.

const tool = document.querySelector('[data-call]')
const limit = 15_000 // milliseconds, for one answer
const settled = 1000 // milliseconds, after which a gateway would have refused a socket
const invalid = 'test' // a token that every gateway refuses
const refusals = ['HTTP 400', 'HTTP 401', 'HTTP 403'] // also without a code, where a site has error pages of its own

if (tool) {
  const field = tool.querySelector('textarea')
  const button = tool.querySelector('button')
  document.querySelector('[data-without-script]').hidden = true
  tool.hidden = false
  addEventListener('pagehide', () => (field.value = '')) // a browser may keep the page for its "back" button

  button.addEventListener('click', async () => {
    const token = field.value.trim()
    field.value = ''
    button.disabled = true
    show('running')
    try {
      show(...(await call(new URL(tool.dataset.call), token)))
    } catch {
      show('unreachable')
    }
    button.disabled = false
  })
}

// show shows one outcome, with what is filled into its text.
function show(name, values = {}) {
  for (const outcome of tool.querySelectorAll('[data-outcome]')) {
    outcome.hidden = outcome.dataset.outcome !== name
    for (const place of outcome.querySelectorAll('[data-fill]')) place.textContent = { origin: location.origin, ...values }[place.dataset.fill] ?? ''
  }
}

// call returns the name of the outcome, and values for its text. It first sends a token that must be refused: an address that does not
// refuse it says nothing about the other one.
async function call(address, token) {
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return ['malformed']
  return address.protocol.startsWith('ws') ? socket(address, token) : request(address, token)
}

async function request(address, token) {
  const control = await ask(address, invalid)
  if (!control) return [(await reachable(address)) ? 'foreign' : 'unreachable']
  if (control.type === 'opaqueredirect') return ['redirect']
  if (!control.code && !refusals.includes(control.status)) return ['unguarded', control]
  const answer = await ask(address, token)
  if (!answer) return ['unreadable']
  if (answer.type === 'opaqueredirect') return ['accepted', { status: 'a redirect' }]
  if (answer.code) return ['refused', answer]
  return [refusals.includes(answer.status) ? 'uncertain' : 'accepted', answer]
}

// ask returns what the page may read of the answer, or undefined if it may read nothing.
async function ask(address, token) {
  const control = new AbortController()
  after(limit, () => control.abort())
  const headers = { Authorization: 'Bearer ' + token }
  let response
  try {
    response = await fetch(address, { headers, signal: control.signal, credentials: 'omit', cache: 'no-store', redirect: 'manual' })
  } catch {
    return undefined
  }
  let problem
  if (/^application\/problem\+json/i.test(response.headers.get('Content-Type') ?? '')) problem = await response.json().catch(() => undefined)
  control.abort() // of an answer that does not end
  const { code, detail } = problem ?? {}
  return { type: response.type, status: 'HTTP ' + response.status, code: word(code), detail: typeof detail === 'string' ? detail.slice(0, 500) : '' }
}

// reachable reports whether something answers there, without the token.
async function reachable(address) {
  try {
    await fetch(address, { mode: 'no-cors', credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout(limit) })
    return true
  } catch {
    return false
  }
}

async function socket(address, token) {
  const control = await dial(address, invalid)
  if (control === 'open') return ['unguarded', { status: 'an open connection' }]
  const outcome = await dial(address, token)
  if (outcome === 'open') return ['accepted', { status: 'an open connection' }]
  if (outcome === 'origin_not_allowed') return ['origin']
  return outcome ? ['closed', { code: outcome, detail: tool.querySelector(`[data-code="${outcome}"]`)?.content.textContent }] : ['silent']
}

// dial resolves to 'open', to the code with which the gateway closes the socket, or to '' if the browser says nothing.
function dial(address, token) {
  return new Promise((resolve) => {
    const it = new WebSocket(address, [tool.dataset.marker, token])
    const end = (outcome) => {
      resolve(outcome)
      it.close()
    }
    after(limit, () => end(''))
    it.onopen = () => after(settled, () => end('open'))
    it.onmessage = () => end('open')
    it.onclose = ({ reason }) => end(word(reason))
  })
}

function after(milliseconds, action) {
  AbortSignal.timeout(milliseconds).addEventListener('abort', action, { once: true })
}

// word returns a code of the gateway, and nothing for any other text.
function word(text) {
  return typeof text === 'string' && /^[a-z_]{1,40}$/.test(text) ? text : ''
}
