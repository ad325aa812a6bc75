// Connects to a gateway as the usual clients do, each with its own way to send the token: node clients.cjs <http://host:port>.
// What they get does not matter here; the test looks at what reaches the backend. The token is on standard input.
'use strict'
const base = process.argv[2]
const socket = base.replace('http', 'ws')
const token = require('node:fs').readFileSync(0, 'utf8').trim()

const silent = () => {}

const clients = {
  async phoenix() {
    const { Socket } = require('phoenix')
    const client = new Socket(socket + '/phoenix', { authToken: token, transport: require('ws'), reconnectAfterMs: () => 60000 })
    client.onError(silent)
    client.connect()
    return () => client.disconnect()
  },
  async actioncable() {
    const { adapters, createConsumer } = require('@rails/actioncable')
    adapters.WebSocket = require('ws')
    globalThis.document ??= { visibilityState: 'visible' }
    globalThis.addEventListener ??= silent
    globalThis.removeEventListener ??= silent
    const consumer = createConsumer(socket + '/actioncable?token=' + token)
    consumer.addSubProtocol('chat.v1')
    consumer.connect()
    return () => consumer.disconnect()
  },
  async 'graphql-ws'() {
    const { createClient } = require('graphql-ws')
    const client = createClient({ url: () => socket + '/graphql-ws?token=' + token, webSocketImpl: require('ws'), lazy: false, retryAttempts: 0, onNonLazyError: silent })
    return () => client.dispose()
  },
  async mqtt() {
    const client = require('mqtt').connect(socket + '/mqtt', { wsOptions: { headers: { Authorization: 'Bearer ' + token } }, reconnectPeriod: 0 })
    client.on('error', silent)
    return () => client.end(true)
  },
  async 'socket.io'() {
    const { io } = require('socket.io-client')
    const client = io(base, { path: '/socket.io/', transports: ['websocket'], extraHeaders: { Authorization: 'Bearer ' + token }, reconnection: false })
    return () => client.close()
  },
  async signalr() {
    const { HubConnectionBuilder, HttpTransportType, LogLevel } = require('@microsoft/signalr')
    const connection = new HubConnectionBuilder()
      .withUrl(base + '/signalr', { accessTokenFactory: () => token, skipNegotiation: true, transport: HttpTransportType.WebSockets })
      .configureLogging(LogLevel.None)
      .build()
    connection.start().catch(silent)
    return () => connection.stop().catch(silent)
  },
  async sockjs() {
    const SockJS = require('sockjs-client')
    const client = new SockJS(base + '/sockjs?token=' + token)
    return () => client.close()
  },
  async eventsource() {
    const { EventSource } = require('eventsource')
    const withToken = (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization: 'Bearer ' + token } })
    const client = new EventSource(base + '/eventsource', { fetch: withToken })
    client.onerror = silent
    return () => client.close()
  },
}

async function main() {
  process.on('uncaughtException', silent) // of a client whose connection the backend refuses
  const ends = []
  for (const [name, connect] of Object.entries(clients)) {
    ends.push(await connect())
    console.log(name)
  }
  process.stdin.destroy()
  setInterval(silent, 1000) // until the test has seen what it waits for
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
