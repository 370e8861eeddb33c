// Bokeh's arrays know no part of themselves: a plain one on the same numbers, without a copy.
function part(array, start, length) {
  const Plain = Object.getPrototypeOf(array.constructor)
  return new Plain(array.buffer, array.byteOffset + start * array.BYTES_PER_ELEMENT, length)
}

// Levels as red, green, blue and alpha in one number, as image_rgba takes them.
// levels: height × width × channels, `span` of them from black to white; 2 channels and more than 4 become grey.
function shade(levels, channels, black, span) {
  const n = levels.length / channels
  const pixels = new Uint32Array(n)
  const byte = (level) => Math.round(255 * Math.min(1, Math.max(0, (level - black) / span)))
  for (let i = 0; i < n; i++) {
    let [red, green, blue] = [0, 0, 0]
    if (channels == 3 || channels == 4) {
      [red, green, blue] = [0, 1, 2].map((channel) => byte(levels[i * channels + channel]))
    } else {
      let sum = 0
      for (let channel = 0; channel < channels; channel++) sum += levels[i * channels + channel]
      red = green = blue = byte(sum / channels)
    }
    pixels[i] = (0xff << 24 | blue << 16 | green << 8 | red) >>> 0
  }
  return pixels
}

// A number with some significant digits and thousands parted.
function number(value, digits = 4) {
  return value.toLocaleString("en", {maximumSignificantDigits: digits})
}

function counted(n, noun) {
  const ending = n == 1 ? "" : noun.endsWith("ch") ? "es" : "s"
  return `${number(n, 15)} ${noun}${ending}`
}

function percent(share) {
  return `${number(100 * share, share < 0.0995 ? 2 : 3)}\u00a0%`
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt()};`)
}
