// A program that uses all of the package. It is compiled with every check, and bundled for a page.
import { connect, events, withTicket } from 'messenger-auth'
import type { Closing, Socket, StreamEvent } from 'messenger-auth'

const token = async (): Promise<string> => {
  const response = await fetch('/chat-token', { method: 'POST' })
  if (!response.ok) throw new Error('no token')
  return (await response.text()).trim()
}

const onclose = ({ code, reason, retrying }: Closing): void => console.log(code.toFixed(), reason.toUpperCase(), retrying)

const chat: Socket = connect({
  url: new URL('wss://chat.example.com/socket'),
  protocols: ['chat.v1'],
  marker: 'jwt',
  token,
  onopen: () => console.log('open'),
  onmessage: (event: MessageEvent<string>) => console.log(event.data.length),
  onclose
})
const sent: boolean[] = [chat.send('text'), chat.send(new Uint8Array([1])), chat.send(new ArrayBuffer(1)), chat.send(new Blob(['1']))]

const stream = events({
  url: '/events',
  ticket: '/chat/ticket',
  parameter: 'ticket',
  token: () => 'token',
  lastEventId: '7',
  onmessage: (event: StreamEvent) => console.log(event.type, event.data, event.lastEventId, sent.length),
  onclose
})

export async function show(image: HTMLImageElement): Promise<void> {
  image.src = await withTicket({ url: '/files/7', token })
  stream.close()
  chat.close()
}

// @ts-expect-error: without a token there is no connection
connect({ url: '/socket' })
// @ts-expect-error: a message is no number
chat.send(7)
// @ts-expect-error: an event stream takes no messages
stream.send('text')
