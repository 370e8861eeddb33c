// What the views share: one K, one chosen centroid, and the address, which holds what is shown.
// cb_obj: the slider of K, before anything is drawn; none when the page is ready.
const size = () => controls.size ? controls.size.categories.indexOf(controls.size.value) : 0
const fields = Array.from(document.querySelectorAll("input[data-control]"))
const show = (input) => {
  input.value = controls[input.dataset.control].value ?? ""
}

function nearest(patch, centroids, k) {
  let [least, found] = [Infinity, null]
  for (let other = 0; other < k; other++) {
    let sum = 0
    for (let i = 0; i < patch.length; i++) sum += (patch[i] - centroids[other * patch.length + i]) ** 2
    if (sum < least) [least, found] = [sum, other]
  }
  return found
}

// A centroid that is chosen stays itself: at another K it is the one that is most like it.
if (cb_obj == controls.size && cb_obj) {
  const [from, to] = [dictionaries.data.centroids[dictionaries.seen], dictionaries.data.centroids[size()]]
  const [k, area] = [dictionaries.data.k[size()], from.length / dictionaries.data.k[dictionaries.seen]]
  const atom = controls.atom.value
  const found = atom == null ? null : nearest(part(from, atom * area, area), to, k)
  dictionaries.seen = size()
  // Silently, for all is drawn next; a source whose data change twice at once upsets Bokeh.
  controls.atom.setv({value: found}, {silent: true})
  controls.atom.high = k - 1
  fields.forEach(show)
  return
}
dictionaries.seen = size()
controls.atom.high = dictionaries.data.k[size()] - 1

// Fields for numbers: what is no number of a row or a centroid is refused.
for (const input of fields) {
  const model = controls[input.dataset.control]
  const limit = () => {
    input.max = model.high
  }
  input.addEventListener("change", () => {
    if (input.reportValidity()) model.value = input.value == "" ? null : Number(input.value)
  })
  model.properties.high.change.connect(limit)
  model.properties.value.change.connect(() => show(input))
  limit()
}

// The centroid that is nearest to a patch that is drawn in light and dark.
const dots = Array.from(document.querySelectorAll(".draw input"))
for (const dot of dots) {
  dot.addEventListener("change", () => {
    const centroids = dictionaries.data.centroids[size()]
    const k = dictionaries.data.k[size()]
    const area = centroids.length / k
    const [, , dark, light] = dictionaries.data.coding[size()]
    const drawn = Float32Array.from({length: area}, (_, i) =>
      dots[Math.floor(i * dots.length / area)].checked ? dark + light : dark)
    controls.atom.value = nearest(drawn, centroids, k)
  })
}

const keys = {order: orders, shown: controls.shown.labels, split: splits}
function told() {
  const found = new URLSearchParams()
  if (controls.size) found.set("k", dictionaries.data.k[size()])
  if (controls.atom.value != null) found.set("c", controls.atom.value)
  found.set("image", `${splits[controls.split.active]}-${keys.shown[controls.shown.active]}`)
  if (controls.order.active) found.set("order", orders[controls.order.active])
  for (const name of ["row", "col"]) {
    if (controls[name].value != null) found.set(name, controls[name].value)
  }
  return found
}
let waiting
const write = () => {
  clearTimeout(waiting)
  waiting = setTimeout(() => history.replaceState(null, "", `#${told()}`), 200)
}

// The address of a section is left to the browser.
async function read() {
  const asked = new URLSearchParams(location.hash.slice(1))
  const [, split, shown] = asked.get("image")?.match(/^([^-]+)-(.*)$/) ?? []
  const k = dictionaries.data.k.indexOf(Number(asked.get("k")))
  const changes = [[controls.size, "value", controls.size?.categories[k]]]
  for (const [name, word] of [["split", split], ["shown", shown], ["order", asked.get("order")]]) {
    if (keys[name].includes(word)) changes.push([controls[name], "active", keys[name].indexOf(word)])
  }
  for (const [name, key] of [["atom", "c"], ["row", "row"], ["col", "col"]]) {
    const wanted = Number(asked.get(key) ?? NaN)
    if (Number.isInteger(wanted) && wanted >= 0) changes.push([controls[name], "value", wanted])
  }
  for (const [control, property, value] of changes) {
    if (value == null || value > (control.high ?? Infinity)) continue
    await new Promise((done) => setTimeout(done))  // one after the other: each is drawn
    control[property] = value
  }
  document.getElementById(asked.has("c") ? "atlas" : "explorer").scrollIntoView({block: "start"})
}
const live = () => document.querySelector(".score").setAttribute("aria-live", "polite")
const asks = () => /^#(k|c|image)=/.test(location.hash)

for (const [name, control] of Object.entries(controls)) {
  control.properties[keys[name] ? "active" : "value"].change.connect(write)
}
addEventListener("hashchange", () => asks() && read())
if (asks()) return read().then(live)

// Once K grows by itself, to show what it does; whoever touches anything takes over. Screen readers
// are told of scores when it has ended.
const moving = matchMedia("(prefers-reduced-motion: no-preference)").matches
if (controls.size && moving && document.visibilityState == "visible") {
  const last = size()
  const pace = Math.min(700, 4500 / Math.max(1, last))
  let place = 0
  const clock = setInterval(() => {
    controls.size.value = controls.size.categories[place]
    if (place++ == last) end()
  }, pace)
  const end = () => {
    clearInterval(clock)
    live()
  }
  for (const event of ["pointerdown", "keydown", "wheel", "touchstart"]) {
    addEventListener(event, end, {once: true, passive: true})
  }
} else live()
