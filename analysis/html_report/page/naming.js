// Names for screen readers that Bokeh gives to none of its parts, and no stops of the Tab key
// where nothing can be done by keyboard.
const parts = (root) => Array.from(root.querySelectorAll("*")).flatMap(
  (element) => [element, ...(element.shadowRoot ? parts(element.shadowRoot) : [])])
for (const view of cb_context.index.roots) {
  for (const element of view.el?.shadowRoot ? parts(view.el.shadowRoot) : []) {
    if (element.matches("[role=slider]")) element.setAttribute("aria-label", view.model.title)
    if (element.matches(".bk-events")) element.removeAttribute("tabindex")
    if (element.matches(".bk-OnOffButton, .bk-ClickButton")) element.setAttribute("role", "button")
  }
}

// Words below tiles, whose colours know no variables of CSS; axes read theirs when they are painted.
const dark = matchMedia("screen and (prefers-color-scheme: dark)")
const soften = () => {
  const soft = getComputedStyle(document.documentElement).getPropertyValue("--soft").trim()
  for (const view of cb_context.index.roots) {
    for (const {glyph} of view.model.renderers ?? []) {
      if (glyph?.type == "Text") glyph.text_color = {value: soft}
    }
    view.request_repaint?.()
  }
}
dark.addEventListener("change", () => {
  soften()
  draw.execute()
})
soften()
