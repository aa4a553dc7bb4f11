// Small pieces of pages.

export const text = value => value === null || value === undefined ? "–" : String(value);

/** What a canvas draws with is made for text of 15 px; so many times as large is the page's own, on a screen that has the room. */
export const unitOf = style => parseFloat(style.fontSize) / 15 || 1;

/** `draw` again where the system goes over to light or dark: what stands still would keep the other one's ink. */
export function inkChanges(draw) { matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw); }

/** Text into an element, where it is another: one that is written again is read out again. */
export function tell(element, words) { if (element.textContent !== words) element.textContent = words; }

/** Children of `parent`, one a key and in their order. Those that stay are not touched, so that what has the focus keeps it. */
export function keyed(parent, keys, make, update) {
  const had = new Map([...parent.children].map(child => [child.dataset.key, child])), wanted = new Set(keys.map(String));
  for (const [key, child] of had) if (!wanted.has(key)) child.remove();
  let at = parent.firstElementChild;
  for (const key of keys) {
    let child = had.get(String(key));
    if (!child) { child = make(key); child.dataset.key = key; }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    update?.(child, key);
  }
}

/** Escape: no record is chosen; where none is, the table closes. What was pressed inside it leads back to its button. */
export function leaves(event, stage, tables) {
  if (event.key !== "Escape" || event.target.matches("input, select")) return;
  if (stage.selected !== null) stage.select(null);
  else if (tables.getAttribute("aria-pressed") === "true") { tables.click(); if (document.activeElement === document.body || event.target.closest("table")) tables.focus(); }
}

/** A cell at a row's end. */
export function cell(row, value, className) {
  const td = row.insertCell();
  td.textContent = text(value);
  if (className) td.className = className;
  return td;
}

/** A line of numbers, the highest at the top. */
export function spark(rates) {
  const top = Math.max(1, ...rates), name = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(name, "svg"), line = document.createElementNS(name, "polyline");
  svg.setAttribute("viewBox", "0 0 120 24");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("points", rates.map((rate, i) => `${i * 2},${23 - 22 * rate / top}`).join(" "));
  svg.append(line);
  return svg;
}

/** A list of facts: pairs of a name and a value. */
export function facts(into, pairs) {
  const rows = pairs.filter(Boolean).flatMap(([name, value, className]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = text(value);
    if (className) dd.className = className;
    return [dt, dd];
  });
  into.replaceChildren(...rows);
}

/** Numbers and texts as a person reads them. */
export function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : value.toFixed(3);
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return String(value).slice(0, 200);
}

/** Microseconds since the Unix epoch as a local time of day. */
export const clock = us => us ? new Date(us / 1000).toISOString().replace("T", " ").slice(0, 23) + " Z" : "–";
