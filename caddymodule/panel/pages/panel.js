// Copying, which pages cannot do without a script. Everything else works without this file.
//
// A shared token is handled here only while its page is open: it is read from the page when it is copied, and it is stored
// nowhere. When the page is left it is taken out of the document, which a browser may keep for its "back" button.

const clearAfter = 60 // seconds

const texts = {
  copied: 'Copied.',
  notCopied: 'The browser did not allow copying. Select the text and copy it yourself.',
  secretCopied: `Copied. Paste it where your site reads its secrets. The clipboard will be emptied in ${clearAfter} seconds, or when you leave this page, if the browser allows it.`,
  emptied: 'The clipboard was emptied. The token is still on this page, until you leave it.',
  inBackground: 'The clipboard still holds the token: a browser empties it only while this page is in front. It is emptied when you come back.',
  notEmptied: 'The browser did not allow emptying the clipboard. It may still hold the token: copy something else.',
  secretNotCopied: 'The browser did not allow copying. The token is shown and selected: copy it with the keyboard or the menu, and later copy something else over it.',
  copiedByHand: 'Copied by hand. Copy something else over it when you have pasted it.',
  gone: 'This token is not shown again.',
}

for (const button of document.querySelectorAll('[data-copy]')) {
  const text = document.getElementById(button.dataset.copy)
  const status = button.closest('.snippet, .secret-box').querySelector('[data-status]')
  button.hidden = false
  if ('secret' in button.dataset) {
    guardSecret(button, text, status)
  } else {
    button.addEventListener('click', async () => {
      status.textContent = (await write(text.textContent)) ? texts.copied : texts.notCopied
    })
  }
}

// What was done is said once: the page that is loaded again, or from a bookmark, says what is true then.
const here = new URL(location.href)
if (here.searchParams.has('done')) {
  here.searchParams.delete('done')
  here.searchParams.delete('ended')
  history.replaceState(history.state, '', here)
}

// Times are in the zone of the viewer. The page has them in UTC.
const inZone = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })
for (const time of document.querySelectorAll('time[datetime]')) {
  const text = inZone.format(new Date(time.dateTime))
  if (time.dataset.precision) time.textContent = text
  else time.title = text
}

// Someone who uses a keyboard or a screen reader begins at the first field that is wrong, or at what the answer says.
const wrong = document.querySelector('[aria-invalid="true"]')
const first = wrong ?? document.querySelector('[role="alert"], #result')
if (first) {
  if (!wrong) first.tabIndex = -1
  first.focus()
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return false // not allowed, not focused, or no clipboard on this page
  }
}

function guardSecret(button, text, status) {
  let taken = false // the operator has it: leaving the page loses nothing
  let due = 0 // when the clipboard is to be emptied
  let timer

  const warn = (event) => {
    event.preventDefault()
    event.returnValue = true // older browsers ask only then
  }
  addEventListener('beforeunload', warn)

  const take = () => {
    taken = true
    removeEventListener('beforeunload', warn)
  }

  const say = () => {
    const left = Math.ceil((due - Date.now()) / 1000)
    status.textContent = texts.secretCopied
    clearTimeout(timer)
    timer = setTimeout(empty, left * 1000)
  }

  const empty = async () => {
    if (!due) return
    if (await write('')) {
      due = 0
      status.textContent = texts.emptied
    } else if (!document.hasFocus()) {
      status.textContent = texts.inBackground
    } else {
      due = 0
      status.textContent = texts.notEmptied
    }
  }

  button.addEventListener('click', async () => {
    if (await write(text.textContent)) {
      take()
      due = Date.now() + clearAfter * 1000
      say()
    } else {
      document.getElementById('secret-reveal').open = true
      getSelection().selectAllChildren(text)
      status.textContent = texts.secretNotCopied
    }
  })

  // Copied by hand: the page does not touch a clipboard that it has not filled.
  document.addEventListener('copy', () => {
    if (getSelection().toString().includes(text.textContent)) {
      take()
      status.textContent = texts.copiedByHand
    }
  })

  addEventListener('focus', () => {
    if (due && Date.now() >= due) empty()
  })

  // A browser allows it right after a click. Following a link uses that up, so that it is too late at pagehide then.
  document.addEventListener('click', (event) => {
    if (due && event.target.closest('a[href]')) emptyAtOnce()
  })

  addEventListener('pagehide', () => {
    if (due) emptyAtOnce()
    due = 0
    text.textContent = taken ? '' : texts.gone
    status.textContent = ''
    button.hidden = true
  })
}

// Empties the clipboard while the page is being left, when nothing is waited for any more. The old way to copy is the one
// that is done at once; it cannot copy nothing, so it copies a blank.
function emptyAtOnce() {
  const overwrite = (event) => {
    event.clipboardData.setData('text/plain', ' ')
    event.preventDefault()
  }
  document.addEventListener('copy', overwrite, { once: true })
  document.execCommand('copy')
}
