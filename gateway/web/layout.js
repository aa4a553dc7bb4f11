// What the bytes of a record mean: docs/LAYOUTS.md, the same as the gateway's own reading.

const NUMBERS = {
  u8: ["getUint8", 1, 1], i8: ["getInt8", 1, 1], u16: ["getUint16", 2, 1], i16: ["getInt16", 2, 1], u32: ["getUint32", 4, 1], i32: ["getInt32", 4, 1],
  u64: ["getBigUint64", 8, 1], i64: ["getBigInt64", 8, 1], f16: ["half", 2, 1], f32: ["getFloat32", 4, 1], f64: ["getFloat64", 8, 1],
};
for (const [name, count] of [["vec2", 2], ["vec3", 3], ["vec4", 4], ["quat", 4]])
  for (const [suffix, base] of [["", "f32"], ["h", "f16"], ["d", "f64"]]) NUMBERS[name + suffix] = [...NUMBERS[base].slice(0, 2), count];
const FIXED = { 5: 2, 6: 2, 7: 4, 8: 4, 9: 3, 10: 3, 11: 6, 12: 4, 13: 4, 14: 4, 15: 4, 16: 6, 17: 9, 18: 12, 19: 16, 20: 4 }; // Godot's types: how many numbers
const WHOLE = new Set([6, 8, 10, 13]), WIDE = 1 << 16, utf8 = new TextDecoder();

/** A half-precision float (IEEE 754 binary16). */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, rest = bits & 1023;
  if (!exponent) return sign * 2 ** -14 * (rest / 1024);
  return exponent === 31 ? (rest ? NaN : sign * Infinity) : sign * 2 ** (exponent - 15) * (1 + rest / 1024);
}

/** The numbers of a Variant that is a number or has a fixed count of them; none for any other. */
function variantNumbers(view) {
  if (view.byteLength < 4) return [];
  const head = view.getUint32(0, true), kind = head & 255, wide = (head & WIDE) !== 0;
  if (kind === 2 && view.byteLength >= (wide ? 12 : 8)) return [wide ? Number(view.getBigInt64(4, true)) : view.getInt32(4, true)];
  if (kind === 3 && view.byteLength >= (wide ? 12 : 8)) return [wide ? view.getFloat64(4, true) : view.getFloat32(4, true)];
  const count = FIXED[kind];
  if (!count) return [];
  const double = wide && !WHOLE.has(kind) && kind !== 20, size = double ? 8 : 4;
  if (view.byteLength < 4 + count * size) return [];
  return Array.from({ length: count }, (_, i) => WHOLE.has(kind) ? view.getInt32(4 + i * 4, true) : double ? view.getFloat64(4 + i * 8, true) : view.getFloat32(4 + i * 4, true));
}

class Field {
  constructor({ name, type, offset, count = 1, bytes = 0, unit = "", scale = 1, bits = null }) {
    Object.assign(this, { name, type, offset, unit, scale, bits });
    const known = NUMBERS[type];
    [this.read, this.each, this.count] = known ? [known[0], known[1], known[2] * count] : [null, 1, 1];
    this.size = known ? this.each * this.count : bytes;
  }

  /** Its piece of a record, or null where that is too short. */
  piece(record) {
    if (record.byteLength < this.offset + this.size) return null;
    const size = this.size || Math.max(0, record.byteLength - this.offset);
    return new DataView(record.buffer, record.byteOffset + Math.min(this.offset, record.byteLength), size);
  }

  /** The `index`-th number of a view in which the field begins at `from`. */
  number(view, index, from = 0) {
    const at = from + index * this.each;
    let value = this.read === "half" ? half(view.getUint16(at, true)) : view[this.read](at, true);
    if (this.bits) {
      const [low, many] = this.bits;
      value = Number((BigInt(value) >> BigInt(low)) & ((1n << BigInt(many)) - 1n));
    }
    return this.scale === 1 ? value : Number(value) * this.scale;
  }

  numbers(record) {
    const view = this.piece(record);
    if (!view || this.type === "text" || this.type === "bytes") return [];
    if (this.type === "variant") return variantNumbers(view);
    return Array.from({ length: this.count }, (_, i) => this.number(view, i));
  }

  value(record) {
    const view = this.piece(record);
    if (!view) return null;
    const raw = () => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (this.type === "text") { const all = raw(), end = all.indexOf(0); return utf8.decode(end < 0 ? all : all.subarray(0, end)); }
    if (this.type === "bytes") return Array.from(raw(), byte => byte.toString(16).padStart(2, "0")).join("");
    const numbers = this.numbers(record);
    if (this.type === "variant") return numbers.length ? numbers : Array.from(raw().subarray(0, 32), byte => byte.toString(16).padStart(2, "0")).join("");
    return this.count > 1 ? numbers : numbers[0];
  }
}

export class Layout {
  /** A layout's document, as the gateway tells it: it has checked it. */
  constructor(document) {
    this.name = document.name ?? "";
    this.up = document.up ?? "y";
    this.fields = document.fields.map(field => new Field(field));
    this.byName = new Map(this.fields.map(field => [field.name, field]));
    this.position = this.#components(document.position, 2, 3);
    this.heading = this.#components(document.heading, 1, 2);
    this.label = this.byName.get(document.label) ?? null;
    this.kind = this.byName.get(document.class) ?? null;
  }

  #components(given, least, most) {
    if (given === undefined || given === null) return [];
    const listed = typeof given === "string" ? [given] : given;
    if (listed.length === 1 && !listed[0].includes(".")) {
      const field = this.byName.get(listed[0]);
      return Array.from({ length: field.type === "variant" ? least : Math.min(field.count, most) }, (_, index) => ({ field, index }));
    }
    return listed.map(one => { const [name, index = "0"] = one.split("."); return { field: this.byName.get(name), index: Number(index) }; });
  }

  #viewed = null; // the record that was looked at last, and its view
  #view = null;

  #of({ field, index }, record) {
    if (field.read && index < field.count) { // the usual case, without a list and a view for every number
      if (record.byteLength < field.offset + field.size) return NaN;
      if (this.#viewed !== record) { this.#viewed = record; this.#view = new DataView(record.buffer, record.byteOffset, record.byteLength); }
      return Number(field.number(this.#view, index, field.offset));
    }
    const numbers = field.numbers(record);
    return index < numbers.length ? Number(numbers[index]) : NaN;
  }

  /** [right, forward] on the map, in the layout's unit; null where the record does not say. */
  place(record) {
    const at = this.position;
    if (!at.length) return null;
    const x = this.#of(at[0], record), y = this.#of(at[at.length === 3 && this.up === "y" ? 2 : 1], record);
    return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : null;
  }

  /** An angle on the map, from its second axis towards its first; null where the record does not say. */
  angle(record) {
    const at = this.heading;
    if (!at.length) return null;
    const first = this.#of(at[0], record), turned = at.length === 2 ? Math.atan2(first, this.#of(at[1], record)) : first;
    if (!Number.isFinite(turned)) return null;
    return this.up === "y" ? turned : Math.PI / 2 - turned;
  }

  /** Its class as text; "" where the layout tells none. */
  kindOf(record) { return this.kind ? String(this.kind.count === 1 && this.kind.read ? this.#of({ field: this.kind, index: 0 }, record) : this.kind.value(record)) : ""; }

  values(record) { return this.fields.map(field => [field, field.value(record)]); }
}
