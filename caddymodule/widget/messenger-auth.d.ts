/** What closed a connection, or why there is none. */
export interface Closing {
  /** A close code, an HTTP status, or 0 for a reason of this library. */
  code: number
  /** A code word such as "token_expired", or "". Never free text. */
  reason: string
  /** Whether another attempt follows. */
  retrying: boolean
}

export interface AddressOptions {
  /** The address to open; a relative one belongs to the page. */
  url: string | URL
  /** Returns a fresh token of your site. It may throw, and is called again later then. */
  token: () => string | Promise<string>
  /** The gateway's ticket_path, or true for /ticket: a fresh ticket in the address takes the place of the token. */
  ticket?: boolean | string
  /** The query parameter of token_from ticket. Default: ticket. */
  parameter?: string
}

export interface ConnectionOptions extends AddressOptions {
  /** Called whenever a connection is open. */
  onopen?: () => void
  /** Called for every connection that ends, and for every attempt that fails. */
  onclose?: (closing: Closing) => void
}

export interface SocketOptions extends ConnectionOptions {
  /** The subprotocols of your backend. */
  protocols?: string[]
  /** The marker of token_from websocket_protocol. Default: jwt. */
  marker?: string
  onmessage?: (event: MessageEvent) => void
}

export interface Socket {
  /** Sends a message, or queues it until the next socket is open. False: it was not accepted. */
  send(data: string | ArrayBuffer | ArrayBufferView<ArrayBuffer> | Blob): boolean
  close(): void
}

export interface StreamEvent {
  type: string
  data: string
  lastEventId: string
}

export interface EventOptions extends ConnectionOptions {
  /** The id after which the stream begins. */
  lastEventId?: string
  /** Called for the events of every type. */
  onmessage?: (event: StreamEvent) => void
}

/** Opens a WebSocket, and the next one before its token expires. */
export function connect(options: SocketOptions): Socket

/** Reads an event stream, and reads on from the last id when it ends. */
export function events(options: EventOptions): { close(): void }

/** Returns the address with a fresh ticket, which opens it once. The message of an error is a code word. */
export function withTicket(options: AddressOptions): Promise<string>
