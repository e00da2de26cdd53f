// A Standard JSON Schema (Zod, ArkType, Valibot) → the fields of a schema of rows, by the rules of specs/rows.md.
//
// Invariants:
// - A column has a type that JSON Schema says, or that an override gives; nothing is made up where neither does.
// - All mistakes are told at once, each with its path.
// - What a library gives is looked at like any other foreign value: it may be nested without end, refer to itself, be
//   no JSON Schema, or throw.
//
// It validates no value: rows are checked by their columns, as with any other schema.

import {
  Bool,
  type DataType,
  Date_,
  DateUnit,
  Field,
  Float,
  Int,
  List,
  Map_,
  Precision,
  Struct,
  Timestamp,
  TimeUnit,
  Utf8,
} from "apache-arrow";
import { type ConfigIssue, ingestError } from "../errors.js";
import { nearest } from "../nearest.js";
import { member } from "./path.js";

/** The part of Standard JSON Schema that is used: an object or a function with this property. */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly version: number;
    readonly vendor: string;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
    readonly jsonSchema: {
      readonly output: (options: {
        readonly target: "draft-2020-12";
        readonly libraryOptions?: Record<string, unknown>;
      }) => Record<string, unknown>;
    };
  };
}

/** An override: what `t` makes. */
export interface Override {
  readonly type: DataType;
  readonly isNullable: boolean;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Whether it is a Standard JSON Schema. It throws nothing. */
export function isStandard(value: unknown): value is StandardSchema {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return false;
  try {
    const standard = (value as Partial<StandardSchema>)["~standard"];
    return typeof standard?.jsonSchema?.output === "function";
  } catch {
    return false;
  }
}

/**
 * The columns of the values that the schema gives (its output).
 *
 * @param overrides By path, as in `at`, `place.at`, `tags[]`, `labels[].value`.
 * @throws {IngestError} `CONFIG_INVALID`: with an issue for each place that has no type, and for each override that
 * has no place.
 */
export function fieldsOf(schema: StandardSchema, overrides: ReadonlyMap<string, Override>): Field[] {
  return new Reader(jsonSchemaOf(schema), overrides).fields();
}

/** What keeps a library from throwing where JSON Schema has no word for a type: an override may have one. */
const LENIENT: Readonly<Record<string, Record<string, unknown>>> = {
  zod: { unrepresentable: "any" },
  arktype: { fallback: (context: { base: unknown }) => context.base },
  valibot: { errorMode: "ignore" },
};

function jsonSchemaOf(schema: StandardSchema): unknown {
  try {
    const standard = schema["~standard"];
    const libraryOptions = Object.hasOwn(LENIENT, standard.vendor) ? LENIENT[standard.vendor] : undefined;
    const options = { target: "draft-2020-12" as const };
    return standard.jsonSchema.output(
      libraryOptions === undefined ? options : { ...options, libraryOptions },
    );
  } catch (cause) {
    throw invalid([{ path: "schema", message: "its library cannot say it as JSON Schema" }], cause);
  }
}

const MAX_DEPTH = 32;
/** A few lines of definitions can unfold to more places than there is memory for. */
const MAX_PLACES = 10_000;

type JsonSchema = Readonly<Record<string, unknown>>;

/** In the place of a kind that is not said: why. */
class Unsaid {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

/** A schema of one `type`. */
type Kind = JsonSchema | Unsaid;

/** What a value may be besides null. */
interface Kinds {
  readonly isNullable: boolean;
  readonly kinds: readonly Kind[];
}

const INTEGERS: Readonly<Record<string, () => DataType>> = {
  int8: () => new Int(true, 8),
  int16: () => new Int(true, 16),
  int32: () => new Int(true, 32),
  int64: () => new Int(true, 64),
  uint8: () => new Int(false, 8),
  uint16: () => new Int(false, 16),
  uint32: () => new Int(false, 32),
  uint64: () => new Int(false, 64),
};
const NUMBERS: Readonly<Record<string, () => DataType>> = {
  float: () => new Float(Precision.SINGLE),
  double: () => new Float(Precision.DOUBLE),
};
const TEXTS: Readonly<Record<string, () => DataType>> = {
  date: () => new Date_(DateUnit.DAY),
  "date-time": () => new Timestamp(TimeUnit.MICROSECOND, "UTC"),
};

class Reader {
  readonly #root: unknown;
  readonly #overrides: ReadonlyMap<string, Override>;
  readonly #used = new Set<string>();
  readonly #issues: ConfigIssue[] = [];
  /** References that are being followed: one that comes again is one to itself. */
  readonly #following = new Set(["#"]);
  #places = 0;

  constructor(root: unknown, overrides: ReadonlyMap<string, Override>) {
    this.#root = root;
    this.#overrides = overrides;
  }

  fields(): Field[] {
    let fields: Field[] = [];
    try {
      const found = this.#kinds(this.#root, "", 0, ({ isNullable, kinds }) => {
        const [kind, ...others] = kinds;
        const isRow = kind !== undefined && !(kind instanceof Unsaid) && isObject(kind.properties);
        if (isRow && kind.type === "object" && others.length === 0 && !isNullable)
          return this.#members(kind, "", 0);
        return this.#issue("", "must be the schema of an object with properties");
      });
      fields = found ?? [];
    } catch (error) {
      if (error !== TOO_MUCH) throw error;
    }
    // Places that a mistake hides would be missed, too.
    const paths = this.#issues.length === 0 ? [...this.#overrides.keys()] : [];
    const known = [...this.#used];
    for (const path of paths)
      if (!this.#used.has(path)) {
        const suggestion = nearest(path, known);
        this.#issues.push({
          path: `overrides[${JSON.stringify(path)}]`,
          message: "the schema has no such place",
          ...(suggestion === undefined ? {} : { suggestion }),
        });
      }
    if (this.#issues.length > 0) throw invalid(this.#issues);
    return fields;
  }

  #issue(path: string, message: string): undefined {
    this.#issues.push({ path: path === "" ? "schema" : path, message });
    return undefined;
  }

  #members(kind: JsonSchema, path: string, depth: number): Field[] {
    const properties = kind.properties as JsonSchema;
    const required = Array.isArray(kind.required) ? new Set<unknown>(kind.required) : new Set();
    const fields: Field[] = [];
    for (const name of Object.keys(properties)) {
      const field = this.#field(name, properties[name], member(path, name), depth + 1, !required.has(name));
      if (field !== undefined) fields.push(field);
    }
    return fields;
  }

  /** Undefined: an issue says why. */
  #field(
    name: string,
    schema: unknown,
    path: string,
    depth: number,
    mayBeMissing: boolean,
  ): Field | undefined {
    this.#used.add(path);
    const override = this.#overrides.get(path);
    return this.#kinds(schema, path, depth, ({ isNullable, kinds }) => {
      const takesNull = isNullable || mayBeMissing;
      if (override !== undefined)
        return new Field(name, override.type, takesNull || override.isNullable, new Map(override.metadata));
      const type = this.#type(kinds, path, depth);
      return type && new Field(name, type, takesNull);
    });
  }

  /** The kinds of a schema, for as long as `use` takes: references that were followed are open until then. */
  #kinds<T>(schema: unknown, path: string, depth: number, use: (kinds: Kinds) => T): T {
    const opened: string[] = [];
    try {
      const kinds: Kind[] = [];
      const isNullable = this.#collect(schema, path, depth, kinds, opened);
      return use({ isNullable, kinds });
    } finally {
      for (const reference of opened) this.#following.delete(reference);
    }
  }

  /** Adds to `kinds`. Whether null is taken. */
  #collect(schema: unknown, path: string, depth: number, kinds: Kind[], opened: string[]): boolean {
    // Not only the depth of values: alternatives may be nested in alternatives.
    if (depth > MAX_DEPTH || ++this.#places > MAX_PLACES) {
      this.#issue(path, `lies deeper than ${MAX_DEPTH}, or behind more than ${MAX_PLACES} other places`);
      throw TOO_MUCH;
    }
    if (!isObject(schema)) {
      kinds.push({});
      return false;
    }
    const { $ref, type } = schema;
    if (typeof $ref === "string") return this.#reference($ref, path, depth, kinds, opened);
    const isNullable = schema.nullable === true;
    if (type === undefined) {
      const alternatives = schema.anyOf ?? schema.oneOf;
      if (Array.isArray(alternatives)) {
        const nulls = alternatives.map((one) => this.#collect(one, path, depth + 1, kinds, opened));
        return isNullable || nulls.includes(true);
      }
      if (Array.isArray(schema.allOf)) return this.#all(schema.allOf, path, depth, kinds, opened);
    }
    const types = Array.isArray(type) ? type : type === undefined ? typesOf(schema) : [type];
    for (const one of types) if (one !== "null") kinds.push({ ...schema, type: one });
    if (types.length === 0) kinds.push({});
    return isNullable || types.includes("null");
  }

  #reference(reference: string, path: string, depth: number, kinds: Kind[], opened: string[]): boolean {
    const target = this.#follow(reference);
    const isOpen = this.#following.has(reference);
    if (target === undefined || isOpen) {
      kinds.push(
        new Unsaid(isOpen ? "it holds itself" : `it refers to ${show(reference)}, which is not there`),
      );
      return false;
    }
    this.#following.add(reference);
    opened.push(reference);
    return this.#collect(target, path, depth + 1, kinds, opened);
  }

  /** All of some schemas at once: one of them, or objects whose properties come together. */
  #all(parts: readonly unknown[], path: string, depth: number, kinds: Kind[], opened: string[]): boolean {
    const found: Kind[] = [];
    const nulls = parts.map((part) => this.#collect(part, path, depth + 1, found, opened));
    if (parts.length === 1) {
      kinds.push(...found);
      return nulls[0]!;
    }
    const properties: Record<string, unknown> = Object.create(null);
    const required: unknown[] = [];
    for (const kind of found) {
      const own = kind instanceof Unsaid || kind.type !== "object" ? undefined : kind.properties;
      if (!isObject(own) || Object.keys(own).some((name) => name in properties)) {
        kinds.push(new Unsaid("it is all of several schemas that are no objects with keys of their own"));
        return false;
      }
      Object.assign(properties, own);
      const { required: names } = kind as JsonSchema;
      if (Array.isArray(names)) required.push(...names);
    }
    kinds.push({ type: "object", properties, required });
    return false;
  }

  #follow(reference: string): unknown {
    if (reference === "#") return this.#root;
    if (!reference.startsWith("#/")) return undefined;
    let at: unknown = this.#root;
    for (const part of reference.slice(2).split("/")) {
      const name = decoded(part).replaceAll("~1", "/").replaceAll("~0", "~");
      if (!isObject(at) || !Object.hasOwn(at, name)) return undefined;
      at = at[name];
    }
    return at;
  }

  #type(given: readonly Kind[], path: string, depth: number): DataType | undefined {
    const unsaid = given.find((kind) => kind instanceof Unsaid);
    if (unsaid !== undefined) return this.#unsaid(path, unsaid.why);
    const kinds = given as readonly JsonSchema[];
    const words = new Set(kinds.map(wordOf));
    // Every integer is a number.
    if (words.size === 2 && words.has("integer") && words.has("number")) words.delete("integer");
    const kind = kinds.find((one) => words.has(wordOf(one)));
    const isOne =
      words.size === 1 && (kinds.length === 1 || (kind?.type !== "object" && kind?.type !== "array"));
    if (kind === undefined || !isOne) {
      const given = kinds.length === 0 ? "nothing but null" : [...words].join(" or ");
      return this.#unsaid(path, `JSON Schema says ${given} of it`);
    }
    return this.#typeOf(kind, path, depth);
  }

  #typeOf(kind: JsonSchema, path: string, depth: number): DataType | undefined {
    const format = typeof kind.format === "string" ? kind.format : "";
    const by = (types: Readonly<Record<string, () => DataType>>): DataType | undefined =>
      Object.hasOwn(types, format) ? types[format]!() : undefined;
    switch (kind.type) {
      case "boolean":
        return new Bool();
      case "integer":
        return by(INTEGERS) ?? new Int(true, 64);
      case "number":
        return by(NUMBERS) ?? new Float(Precision.DOUBLE);
      case "string":
        return by(TEXTS) ?? new Utf8();
      case "array": {
        if (Array.isArray(kind.prefixItems) || !isObject(kind.items))
          return this.#unsaid(path, "JSON Schema says an array of it whose items are not all of one kind");
        const item = this.#field("item", kind.items, `${path}[]`, depth + 1, false);
        return item && new List(item);
      }
      case "object":
        return this.#object(kind, path, depth);
      default:
        return this.#unsaid(path, "JSON Schema says nothing of it");
    }
  }

  #object(kind: JsonSchema, path: string, depth: number): DataType | undefined {
    if (isObject(kind.properties) && Object.keys(kind.properties).length > 0)
      return new Struct(this.#members(kind, path, depth));
    const patterns = isObject(kind.patternProperties) ? Object.values(kind.patternProperties) : [];
    const values = isObject(kind.additionalProperties) ? [kind.additionalProperties] : patterns;
    if (values.length !== 1)
      return this.#unsaid(path, "JSON Schema says an object of it, and not what it holds");
    const value = this.#field("value", values[0], `${path}[].value`, depth + 1, false);
    if (value === undefined) return undefined;
    const entries = new Struct([new Field("key", new Utf8(), false), value]);
    return new Map_(new Field("entries", entries, false) as never);
  }

  #unsaid(path: string, why: string): undefined {
    return this.#issue(
      path,
      `has no type: ${why}; give one as an override, { ${JSON.stringify(path)}: t.… }`,
    );
  }
}

/** Thrown where there is too much to go on; an issue says so. */
const TOO_MUCH = Object.freeze({ tooMuch: true });

/** What tells kinds apart. */
function wordOf({ type, format }: JsonSchema): string {
  if (typeof type !== "string") return "nothing";
  return type !== "object" && type !== "array" && typeof format === "string" && meansType(type, format)
    ? `${type} (${format})`
    : type;
}

const meansType = (type: string, format: string): boolean =>
  Object.hasOwn(type === "string" ? TEXTS : type === "integer" ? INTEGERS : NUMBERS, format);

/** Where no `type` is given: by the values it lists, or by what only one type has. */
function typesOf(schema: JsonSchema): string[] {
  const values = Array.isArray(schema.enum) ? schema.enum : "const" in schema ? [schema.const] : undefined;
  if (values !== undefined) return [...new Set(values.map(typeOfValue))];
  if (isObject(schema.properties) || isObject(schema.additionalProperties)) return ["object"];
  if (isObject(schema.items) || Array.isArray(schema.prefixItems)) return ["array"];
  return [];
}

function typeOfValue(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "number" && Number.isInteger(value) ? "integer" : typeof value;
}

const isObject = (value: unknown): value is JsonSchema =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const show = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function invalid(issues: readonly ConfigIssue[], cause?: unknown): Error {
  const message = issues.map((issue) => `${issue.path} ${issue.message}`).join("; ");
  return ingestError({ code: "CONFIG_INVALID", operation: "schema", message, issues, cause });
}
