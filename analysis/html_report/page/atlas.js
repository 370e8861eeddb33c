// Draws the atlas. cb_obj: a control that changed, or an event of the pointer on the board.
const at = controls.size ? controls.size.categories.indexOf(controls.size.value) : 0
const one = Object.fromEntries(
  Object.entries(dictionaries.data).map(([name, column]) => [name, column[at]]))
const [rows, cols, channels = 1] = patch
const area = rows * cols * channels
const {k} = one
const across = one.order.shape[1]
const down = one.order.shape[0]
// A whole number of the screen's dots to a pixel of a centroid, so that all are alike.
const dot = devicePixelRatio
const room = plot.inner_width > 0 ? plot.inner_width * dot : 800
const fitting = (line) => Math.max(1, Math.floor((((room - line) / across) - line) / cols))
const line = fitting(1) > 4 ? 2 : 1
const scale = fitting(line)
const [high, wide] = [rows * scale + line, cols * scale + line]
const total = one.count.reduce((sum, count) => sum + count, 0)
const NDArray = one.blank.constructor
const moved = cb_obj?.event_name
const nearest = k > 1 ? one.near.shape[1] : 0

function tile(atom) {
  return shade(part(one.centroids, atom * area, area), channels, 0, 255)
}

function neighbours(atom) {
  return Array.from(part(one.near, atom * nearest, nearest))
}

function show(atom) {
  const tall = rows / cols
  const atoms = [atom, ...neighbours(atom)]
  const x = atoms.map((_, i) => (i % 3) * (1 + places.gap))
  const y = atoms.map((_, i) => Math.floor(i / 3) * (tall + places.caption + places.gap))
  near.data = {
    image: atoms.map((one) => new NDArray(tile(one), [rows, cols])),
    x, y,
    bottom: y.map((top) => top + tall),
    words: atoms.map((one) => `${one}`),
  }
  const distances = Array.from(part(one.distance, atom * nearest, nearest))
  words.text = `Centroid <b>${atom}</b>, ${kinds[one.kind[atom]]}: nearest to ` +
    `<b>${counted(one.count[atom], "patch")}</b> (${percent(one.count[atom] / total)}), ` +
    `${percent(one.sse_share[atom])} of the SSE.` +
    (nearest
      ? ` Euclidean distance to its neighbours, over all values of a patch: ` +
        `${distances.map((d) => number(d, 3)).join(", ")} ${level}.`
      : "")
}

if (cb_obj == controls.atom) {
  const atom = controls.atom.value
  if (atom != null && atom >= 0 && atom < k) show(Math.floor(atom))
  return
}
if (moved) {
  const cell = Math.floor(cb_obj.y / high) * across + Math.floor(cb_obj.x / wide)
  const place = board.data.cells[0].indexOf(cell)
  const inside = cb_obj.x >= 0 && cb_obj.x < across * wide && place >= 0
  if (inside) show(tiles.data.atom[place])
  return
}

// Cell of each atom: as they look alike, or by rank in reading order.
const order = orders[controls.order.active]
const ranks = {
  use: (a, b) => one.count[b] - one.count[a],
  error: (a, b) => one.sse_share[b] - one.sse_share[a],
  kind: (a, b) => one.kind[a] - one.kind[b] || one.count[b] - one.count[a],
}
const atoms = order in ranks
  ? Array.from({length: k}, (_, atom) => atom).sort((a, b) => ranks[order](a, b) || a - b)
  : Array.from(one.order)
const cells = atoms.map((_, cell) => cell).filter((cell) => atoms[cell] >= 0)
const placed = cells.map((cell) => atoms[cell])

// Lines around the tiles; empty cells stay transparent.
const [height, width] = [down * high + line, across * wide + line]
const pixels = new Uint32Array(height * width)
placed.forEach((atom, i) => {
  const [top, left] = [Math.floor(cells[i] / across) * high, (cells[i] % across) * wide]
  const shades = tile(atom)
  for (let row = 0; row < high + line; row++) {
    pixels.fill(line_shade, (top + row) * width + left, (top + row) * width + left + wide + line)
  }
  for (let row = 0; row < rows * scale; row++) {
    const start = (top + line + row) * width + left + line
    for (let col = 0; col < cols; col++) {
      const shade = shades[Math.floor(row / scale) * cols + col]
      pixels.fill(shade, start + col * scale, start + (col + 1) * scale)
    }
  }
})
board.data = {image: [new NDArray(pixels, [height, width])], width: [width], height: [height],
  cells: [cells]}
tiles.data = {
  x: cells.map((cell) => (cell % across) * wide + line / 2),
  y: cells.map((cell) => Math.floor(cell / across) * high + line / 2),
  width: placed.map(() => wide),
  height: placed.map(() => high),
  atom: placed,
  count: placed.map((atom) => one.count[atom]),
  share: placed.map((atom) => one.count[atom] / total),
  sse_share: placed.map((atom) => one.sse_share[atom]),
  kind: placed.map((atom) => kinds[one.kind[atom]]),
  near: placed.map((atom) => neighbours(atom).join(", ")),
}
const shown = Math.max(room, width)
plot.x_range.setv({start: 0, end: shown, reset_start: 0, reset_end: shown})
// As high as the picture and what stands below it; a dot of the picture is a dot of the screen.
const [bar, wanted] = [plot.outer_height - plot.inner_height, height * plot.inner_width / shown]
if (plot.inner_width > 0) plot.height = Math.ceil(wanted) + bar
const seen = plot.inner_width > 0 ? Math.ceil(wanted) * shown / plot.inner_width : height
plot.y_range.setv({start: seen, end: 0, reset_start: seen, reset_end: 0})
controls.atom.high = k - 1
show(placed[0])
