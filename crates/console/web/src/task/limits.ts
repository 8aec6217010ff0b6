export const MESSAGE_BYTES_MAX = 60_000

const encoder = new TextEncoder()

export const bytesOf = (text: string): number =>
  text.length * 3 <= MESSAGE_BYTES_MAX ? text.length : encoder.encode(text).length
