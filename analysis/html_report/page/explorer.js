// Draws the explorer. cb_obj: a control that changed, or an event of the pointer on a picture.
const {sizes, grid, rows, cols, stride, before, black, span, peak} = data
const [height, width, channels = 1] = data.shape
const [splits, shown] = data.images
const area = height * width * channels
const windows = grid[0] * grid[1]

const size = controls.size ? controls.size.categories.indexOf(controls.size.value) : 0
const image = controls.split.active * shown + controls.shown.active
const version = size * splits * shown + image
const original = part(data.original, image * area, area)
const rebuilt = part(data.rebuilt, version * area, area)
const atoms = part(data.atom, version * windows, windows)
const centroids = dictionaries.data.centroids[size]
const kind = dictionaries.data.kind[size]
const [lowest, step, dark, light] = dictionaries.data.coding[size]

// Which pixel is meant: under the pointer, or kept by a click. `this` is what changed, so it
// lies with the tiles.
const state = tiles.state ??= {pixel: null, kept: false}
const moved = cb_obj?.event_name
const chosen = controls.atom.value
const chose = cb_obj == controls.atom
const typed = cb_obj == controls.row || cb_obj == controls.col
if (typed) {
  const [row, col] = [controls.row.value, controls.col.value]
  const given = row != null && col != null
  if (given || state.kept) state.pixel = given ? {row, col} : null
  state.kept = given
}
if (moved == "mouseleave" && !state.kept) state.pixel = null
if (moved == "mousemove" && state.kept) return
if (moved == "mousemove" || moved == "tap") {
  const [row, col] = [Math.floor(cb_obj.y), Math.floor(cb_obj.x)]
  const inside = row >= 0 && row < height && col >= 0 && col < width
  const again = state.pixel?.row == row && state.pixel?.col == col
  if (moved == "mousemove" && again) return
  if (moved == "tap") state.kept = inside && !(state.kept && again)
  state.pixel = inside ? {row, col} : null
  if (moved == "tap") {
    controls.row.value = state.kept ? row : null
    controls.col.value = state.kept ? col : null
  }
}

// NaN is a pixel that holds no data: there is no error.
const error = (level, right) => isNaN(right) ? 0 : level - right
// Signed where there is one channel; of several the root mean square, for red and green that are
// off in opposite ways are both wrong.
function errors_of(levels) {
  const errors = new Float32Array(height * width)
  for (let i = 0; i < area; i++) {
    const off = error(levels[i], original[i])
    errors[Math.floor(i / channels)] += channels == 1 ? off : off ** 2 / channels
  }
  return channels == 1 ? errors : errors.map(Math.sqrt)
}
const NDArray = dictionaries.data.blank[0].constructor
if (!moved && !typed && !chose) {
  const errors = errors_of(rebuilt)
  pictures.original.data = {image: [new NDArray(shade(original, channels, black, span), [height, width])]}
  pictures.rebuilt.data = {
    image: [new NDArray(shade(rebuilt, channels, black, span), [height, width])],
    levels: [rebuilt],
  }
  pictures.error.data.image[0].set(errors)
  // One scale for all K of an image, so that its colours can be compared; found once.
  const largest = tiles.largest ??= new Map()
  if (!largest.has(image)) {
    largest.set(image, sizes.reduce((most, _, k) => {
      const found = errors_of(part(data.rebuilt, (k * splits * shown + image) * area, area))
      return found.reduce((most, one) => Math.max(most, Math.abs(one)), most)
    }, 0))
  }
  // Not beyond what pictures show: beside one hot pixel all others would seem to be right.
  const most = Math.min(largest.get(image), span)
  const beyond = largest.get(image) > span
  const night = matchMedia("screen and (prefers-color-scheme: dark)").matches
  scale.setv({palette: palettes[night ? 1 : 0], low: channels > 1 ? 0 : -most || -1, high: most || 1})
  pictures.error.change.emit()
  const [low, high] = (channels > 1 ? ["0", ""] : [`−${number(most, 3)}`, "+"]).map((end, i) =>
    beyond && (i || channels == 1) ? `${i ? "≥" : "≤"} ${end}` : end)
  const colours = [0, 127, 254].map((place) => scale.palette[place]).join()
  // How many pixels are off by how much, above the colours; zero is in the middle of a bar.
  const bars = new Array(41).fill(0)
  for (const one of errors) {
    const share = (one - scale.low) / (scale.high - scale.low)
    bars[Math.round(Math.min(1, Math.max(0, share)) * (bars.length - 1))] += 1
  }
  const tallest = Math.log1p(Math.max(...bars))
  const drawn = bars.map((times, i) => {
    const height = 20 * Math.log1p(times) / tallest
    return `<rect x="${i}" y="${20 - height}" width="0.8" height="${height}"/>`
  })
  const name = "Histogram of the errors of all pixels, heights logarithmic"
  words["error-words"].text = `<svg viewBox="0 0 41 20" preserveAspectRatio="none" role="img"
    aria-label="${name}" style="display:block;width:100%;height:2.2em;fill:currentColor"><title>${name}</title>
    ${drawn.join("")}</svg><span style="display:block;height:.4em;background:linear-gradient(90deg,${colours})"></span>
    <span style="display:flex;justify-content:space-between"><span>${low}</span><span>${high}${number(most, 3)}</span></span>`
  const mse = data.mse[version]
  const psnr = mse > 0 ? `${(10 * Math.log10(peak ** 2 / mse)).toFixed(1)} dB` : "∞"
  const split = controls.split.labels[controls.split.active]
  words.score.text = `<b>K = ${number(sizes[size], 9)}</b> · MSE <b>${number(mse)}</b> ${data.unit} · ` +
    `PSNR <b>${psnr}</b> · ${split} ${number(data.index[image], 9)}, ` +
    `${counted(data.patches[version], "patch")} from ${counted(data.distinct[version], "centroid")}`
}

// The centroids that lie on the pixel, or on any: how often, and the level each puts there.
const weights = new Map()
const {pixel} = state
let total = 0
const found = {x: [], y: [], width: [], height: []}  // windows of the chosen centroid
const extent = {top: height, left: width, bottom: 0, right: 0}
for (let down = 0; down < grid[0]; down++) {
  for (let across = 0; across < grid[1]; across++) {
    const atom = atoms[down * grid[1] + across]
    const [top, left] = [down * stride - before[0], across * stride - before[1]]
    if (atom < 0) continue
    const [bottom, right] = [Math.min(height, top + rows), Math.min(width, left + cols)]
    const [upper, nearer] = [Math.max(0, top), Math.max(0, left)]
    if (atom == chosen) {
      found.x.push((nearer + right) / 2)
      found.y.push((upper + bottom) / 2)
      found.width.push(right - nearer)
      found.height.push(bottom - upper)
    }
    let level = null
    if (pixel) {
      const [row, col] = [pixel.row - top, pixel.col - left]
      if (row < 0 || row >= rows || col < 0 || col >= cols) continue
      level = 0
      for (let channel = 0; channel < channels; channel++) {
        level += centroids[((atom * rows + row) * cols + col) * channels + channel] / channels
      }
      level = lowest + level * step
      extent.top = Math.min(extent.top, upper)
      extent.left = Math.min(extent.left, nearer)
      extent.bottom = Math.max(extent.bottom, bottom)
      extent.right = Math.max(extent.right, right)
    }
    const entry = weights.get(atom) ?? {atom, times: 0, levels: 0}
    entry.times += 1
    entry.levels += level
    weights.set(atom, entry)
    total += 1
  }
}
places.data = found
const ranked = [...weights.values()].sort((a, b) => b.times - a.times || a.atom - b.atom)
// On a narrow screen fewer, so that there is room for the words below them.
const narrow = board.inner_width > 0 && board.inner_width < 200
const most_across = layout.across - narrow
const lines = narrow ? most_across - 1 : most_across
const listed = ranked.slice(0, most_across * lines)
const patch = rows * cols * channels
const tall = rows / cols
const across = Math.min(most_across, Math.max(2, Math.ceil(Math.sqrt(listed.length))))
const pitch = (tall + layout.caption + layout.gap) * (narrow && across == most_across ? across / lines : 1)
const x = listed.map((_, i) => (i % across) * (1 + layout.gap))
const y = listed.map((_, i) => Math.floor(i / across) * pitch)
tiles.data = {
  image: listed.map(({atom}) => new NDArray(
    shade(part(centroids, atom * patch, patch), channels, dark, light), [rows, cols])),
  x, y,
  bottom: y.map((top) => top + tall),
  thick: listed.map(({atom}) => atom == chosen ? 4 : 0),
  weight: listed.map(({times}) => times / total),
  words: listed.map(({times}) => (times < total / 1000 ? "<0.1" : number(100 * times / total, 2))),
  atom: listed.map(({atom}) => atom),
  kind: listed.map(({atom}) => kinds[kind[atom]]),
  level: listed.map(({times, levels}) => pixel ? number(levels / times, 3) : "–"),
}

const edge = 0.02
board.x_range.setv({start: -edge, end: across * (1 + layout.gap) - layout.gap + edge})
board.y_range.setv({start: across * (tall + layout.caption + layout.gap) + edge, end: -edge})

const more = ranked.length > listed.length ? ` The ${listed.length} most used are shown.` : ""
if (pixel) {
  const at = (pixel.row * width + pixel.col)
  let [was, is] = [0, 0]
  for (let channel = 0; channel < channels; channel++) {
    was += original[at * channels + channel] / channels
    is += rebuilt[at * channels + channel] / channels
  }
  // On small images the patches of a pixel may reach over all of it, which says nothing.
  const all = extent.right - extent.left == width && extent.bottom - extent.top == height
  words["made-words"].text = `Row ${pixel.row}, column ${pixel.col}: ` + (total
    ? `the mean of ${counted(total, "patch")} from ${counted(ranked.length, "centroid")} gives <b>${number(is)}</b> for ${number(was)}.`
    : `no kept patch lies here, so it stays 0 (${number(was)} in the original).`) +
    (state.kept ? " Click again to let go." : " Click to keep it.") + more
  marks.data = {
    x: [pixel.col + 0.5, (extent.left + extent.right) / 2],
    y: [pixel.row + 0.5, (extent.top + extent.bottom) / 2],
    width: [1, all ? NaN : Math.max(0, extent.right - extent.left)],
    height: [1, all ? NaN : Math.max(0, extent.bottom - extent.top)],
  }
} else {
  words["made-words"].text = "All that is shown, by how often each centroid is used. Point at a pixel," +
    " or give its row and column, to see what makes it." + more + (chosen == null
      ? " Click a centroid to see where it lies."
      : ` Centroid ${chosen}, marked, stands for ${counted(found.x.length, "patch")} here.`)
  marks.data = {x: [], y: [], width: [], height: []}
}
