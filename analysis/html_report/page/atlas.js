// Draws the atlas. cb_obj: a control that changed.
const at = controls.size ? controls.size.categories.indexOf(controls.size.value) : 0
const one = Object.fromEntries(
  Object.entries(dictionaries.data).map(([name, column]) => [name, column[at]]))
const [rows, cols, channels = 1] = patch
const area = rows * cols * channels
const {k} = one
const across = one.order.shape[1]
const total = one.count.reduce((sum, count) => sum + count, 0)
const NDArray = one.blank.constructor
const nearest = k > 1 ? one.near.shape[1] : 0

function tile(atom) {
  const [, , dark, light] = one.coding
  return shade(part(one.centroids, atom * area, area), channels, dark, light)
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
    thick: atoms.map((one) => one == controls.atom.value ? 4 : 0),
    words: atoms.map((one) => `${one}`),
    atom: atoms,
  }
  const distances = Array.from(part(one.distance, atom * nearest, nearest))
  words.text = `Centroid <b>${atom}</b>, ${kinds[one.kind[atom]]}: nearest to ` +
    `<b>${counted(one.count[atom], "patch")}</b> (${percent(one.count[atom] / total)}), ` +
    `${percent(one.sse_share[atom])} of the SSE.` +
    (nearest
      ? ` Euclidean distance to its neighbours, over all values of a patch: ` +
        `${distances.map((d) => number(d, 3)).join(", ")} ${level}.`
      : "") + (classed ? used(atom) : "")
}

// Of which classes the patches are that it stands for.
function used(atom) {
  const times = new Array(classed.names.length).fill(0)
  const found = classed.nearest[at]
  for (let i = 0; i < found.length; i++) if (found[i] == atom) times[classed.classes[i]] += 1
  const sum = times.reduce((sum, one) => sum + one, 0)
  const most = Math.max(...times, 1)
  const lines = times.map((n, i) => `<span>${escaped(classed.names[i])}</span>
    <span style="background:var(--accent);height:.7em;align-self:center;width:${100 * n / most}%"></span>
    <span style="text-align:right">${n ? percent(n / sum) : "–"}</span>`)
  return `<div style="margin-top:.6em">Of ${counted(found.length, "random patch")} it stands for
    ${number(sum, 9)}, by class:</div><div style="display:grid;grid-template-columns:auto 1fr auto;` +
    `column-gap:.6em;font-size:.8125rem;line-height:1.35">${lines.join("")}</div>`
}

// What is chosen, with a frame; at first what stands first.
function choose() {
  const atom = controls.atom.value
  const i = tiles.data.atom.indexOf(atom)
  const names = ["x", "y", "width", "height"]
  chosen.data = Object.fromEntries(names.map((name) => [name, i < 0 ? [] : [tiles.data[name][i]]]))
  show(i < 0 ? tiles.data.atom[0] : atom)
}
if (cb_obj == controls.atom) return choose()

// Rows of tiles: as they look alike, or by rank; each kind begins a row of its own.
const order = orders[controls.order.active]
const all = Array.from({length: k}, (_, atom) => atom)
const ranked = (value) => all.sort((a, b) => value[b] - value[a] || a - b)
const groups = order == "likeness" ? [Array.from(one.order)]
  : order == "use" ? [ranked(one.count)]
  : order == "error" ? [ranked(one.sse_share)]
  : kinds.map((_, kind) => ranked(one.count).filter((atom) => one.kind[atom] == kind))
      .filter((group) => group.length)

// A whole number of the screen's dots to a pixel of a centroid, so that all are alike. Beside the
// tiles stands what they are ordered by.
const dot = devicePixelRatio
const beside = {likeness: 0, use: 72, error: 72, kind: 128}[order] * dot
const room = plot.inner_width > 0 ? plot.inner_width * dot : 800
const fitting = (line) =>
  Math.max(1, Math.floor((((room - beside - line) / across) - line) / cols))
const line = fitting(1) > 4 ? 2 : 1
const size = fitting(line)
const [high, wide] = [rows * size + line, cols * size + line]
const apart = order == "kind" ? 6 * dot : 0  // between kinds
const lineOfWords = 15 * dot

const placed = []  // [atom, top, left] of each tile
const told = []  // [top, words] beside the tiles
let height = 0
for (const group of groups) {
  const down = Math.ceil(group.length / across)
  for (const [i, atom] of group.entries()) {
    if (atom >= 0) placed.push([atom, height + Math.floor(i / across) * high, (i % across) * wide])
  }
  if (order == "kind") {
    const words = `${plurals[one.kind[group[0]]]}, ${percent(group.length / k)}`
    told.push([Math.max(height, told.length ? told.at(-1)[0] + lineOfWords : 0), words])
  } else if (order != "likeness") {
    const value = (atom) => order == "use" ? one.count[atom] / total : one.sse_share[atom]
    const step = Math.ceil(lineOfWords / high)
    for (let row = 0; row < down; row += step) {
      told.push([height + row * high, percent(value(group[row * across]))])
    }
  }
  height += down * high + line + apart
}
height -= apart

// Lines around the tiles; what is empty stays transparent.
const width = across * wide + line
const pixels = new Uint32Array(height * width)
for (const [atom, top, left] of placed) {
  const shades = tile(atom)
  for (let row = 0; row < high + line; row++) {
    pixels.fill(line_shade, (top + row) * width + left, (top + row) * width + left + wide + line)
  }
  for (let row = 0; row < rows * size; row++) {
    const start = (top + line + row) * width + left + line
    for (let col = 0; col < cols; col++) {
      const shade = shades[Math.floor(row / size) * cols + col]
      pixels.fill(shade, start + col * size, start + (col + 1) * size)
    }
  }
}
board.data = {image: [new NDArray(pixels, [height, width])], width: [width], height: [height]}
const atoms = placed.map(([atom]) => atom)
tiles.data = {
  x: placed.map(([, , left]) => left + line / 2),
  y: placed.map(([, top]) => top + line / 2),
  width: atoms.map(() => wide),
  height: atoms.map(() => high),
  bottom: placed.map(([, top]) => top + line / 2 + high),
  atom: atoms,
  count: atoms.map((atom) => one.count[atom]),
  share: atoms.map((atom) => one.count[atom] / total),
  sse_share: atoms.map((atom) => one.sse_share[atom]),
  kind: atoms.map((atom) => kinds[one.kind[atom]]),
  near: atoms.map((atom) => neighbours(atom).join(", ")),
}
scale.data = {
  x: told.map(() => width + 8 * dot),
  y: told.map(([top]) => top),
  words: told.map(([, words]) => words),
}
const shown = Math.max(room, width + beside)
plot.x_range.setv({start: 0, end: shown, reset_start: 0, reset_end: shown})
// As high as the picture and what stands below it; a dot of the picture is a dot of the screen.
const tall = Math.max(height, told.length ? told.at(-1)[0] + lineOfWords : 0)
const [bar, wanted] = [plot.outer_height - plot.inner_height, tall * plot.inner_width / shown]
if (plot.inner_width > 0) plot.height = Math.ceil(wanted) + bar
const seen = plot.inner_width > 0 ? Math.ceil(wanted) * shown / plot.inner_width : tall
plot.y_range.setv({start: seen, end: 0, reset_start: seen, reset_end: 0})
choose()
