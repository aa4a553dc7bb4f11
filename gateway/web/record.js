// A table of the records, and one of them with its values.

import { facts, keyed, shown, tell, text } from "./parts.js";

const ROWS_MAX = 200, COLUMNS_MAX = 16, HEX_BYTES = 48;

const hex = bytes => Array.from(bytes.subarray(0, HEX_BYTES), byte => byte.toString(16).padStart(2, "0")).join(" ") + (bytes.length > HEX_BYTES ? " …" : "");

/** The values of one record into a list of facts. */
export function showRecord(into, key, record, layout) {
  if (!record) { into.replaceChildren(); return; }
  const values = layout ? layout.values(record).map(([field, value]) => [field.unit ? `${field.name} (${field.unit})` : field.name, shown(value)]) : [];
  facts(into, [["key", key], ["bytes", record.length], ...values, ["hex", hex(record)]]);
}

/** The first records as rows; `pick(key)` when one is chosen. */
export function showTable(table, source, layout, selected, pick) {
  const keys = [...source.keys()].sort((a, b) => a - b);
  const columns = layout ? layout.fields.slice(0, COLUMNS_MAX) : [];
  const head = document.createElement("tr");
  for (const name of ["key", ...columns.map(field => field.unit ? `${field.name} (${field.unit})` : field.name), ...(layout ? [] : ["bytes"])]) {
    const th = document.createElement("th");
    th.scope = "col";
    th.textContent = name;
    head.append(th);
  }
  if (table.tHead.textContent !== head.textContent) { table.tHead.replaceChildren(head); table.tBodies[0].replaceChildren(); }
  const make = key => {
    const row = document.createElement("tr"), button = document.createElement("button");
    button.textContent = key;
    button.setAttribute("aria-label", `record ${key}`);
    button.onclick = () => pick(key);
    row.insertCell().append(button);
    return row;
  };
  keyed(table.tBodies[0], keys.slice(0, ROWS_MAX), make, (row, key) => {
    const record = source.get(key), values = layout ? columns.map(field => shown(field.value(record))) : [hex(record.subarray(0, 16))];
    row.className = key === selected ? "chosen" : "";
    row.cells[0].firstChild.setAttribute("aria-pressed", String(key === selected));
    values.forEach((value, i) => tell(row.cells[i + 1] ?? row.insertCell(), text(value)));
  });
  tell(table.caption, keys.length > ROWS_MAX ? `the first ${ROWS_MAX} of ${keys.length} records` : `${keys.length} records`);
}
