// Checks what comes over the wire against the SDK's own declarations, read with the compiler.
//
// The SDK takes whatever it gets. Here an unknown field, a missing field, a wrong type and a
// literal that the declarations do not know are each a problem. What may be left out is what the SDK
// declares with a question mark; that everything unset is null is checked by the Python suite.

import { createRequire } from "node:module";
import ts from "typescript";

/** The one field that the server may add anywhere. */
const EXTENSION_FIELD = "posthouse";
/** What a page may say beside its cursors, for clients that page by ids. */
const ENDS = new Set(["has_more", "first_id", "last_id"]);
/** Null when unset, as all else is, though these declarations would have it left out. */
const NULL_NOT_ABSENT = new Set([
  "BetaManagedAgentsModelConfig.inference_geo",
  "BetaManagedAgentsSessionUsage.cache_creation",
  "BetaManagedAgentsWebFetchToolConfig.allowed_domains",
  "BetaManagedAgentsWebFetchToolConfig.blocked_domains",
  "BetaManagedAgentsWebSearchToolConfig.allowed_domains",
  "BetaManagedAgentsWebSearchToolConfig.blocked_domains",
]);

/** What a method's response has to be. */
export type Kind =
  | { kind: "object"; type: ts.Type }
  | { kind: "page"; page: ts.Type; entry: ts.Type }
  | { kind: "stream"; event: ts.Type }
  | { kind: "content" }
  | { kind: "helper" };

/** The declarations of the SDK. */
export class Shapes {
  readonly #checker: ts.TypeChecker;
  readonly #client: ts.Type;

  constructor() {
    const entry = createRequire(import.meta.url).resolve("@anthropic-ai/sdk/index.mjs");
    const declarations = entry.replace(/\.mjs$/, ".d.mts");
    const program = ts.createProgram([declarations], {
      exactOptionalPropertyTypes: true,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      skipLibCheck: true,
      strict: true,
      target: ts.ScriptTarget.ESNext,
      types: ["node"],
    });
    this.#checker = program.getTypeChecker();
    const source = program.getSourceFile(declarations);
    const module = source && this.#checker.getSymbolAtLocation(source);
    if (!module) throw new Error(`${declarations} declares nothing`);
    let client = this.#checker.getExportsOfModule(module).find((one) => one.name === "Anthropic");
    if (client && client.flags & ts.SymbolFlags.Alias) {
      client = this.#checker.getAliasedSymbol(client);
    }
    if (!client) throw new Error("the SDK has no class Anthropic");
    this.#client = this.#checker.getDeclaredTypeOfSymbol(client);
  }

  /** What the response of a method has to be. */
  kind(method: string): Kind {
    // The server does not tell the namespaces apart: both get the fields of the beta.
    const known = method.startsWith("beta.") ? method : `beta.${method}`;
    let type = this.#client;
    for (const name of known.split(".")) type = this.#property(type, name);
    const [signature] = type.getCallSignatures();
    if (!signature) throw new Error(`${known} is no method`);
    const returned = signature.getReturnType();
    const [first, second] = this.#checker.getTypeArguments(returned as ts.TypeReference);
    const name = returned.symbol?.name;
    if (name === "PagePromise" && first && second) {
      return { kind: "page", page: first, entry: second };
    }
    if (name !== "APIPromise" || !first) return { kind: "helper" };
    if (first.symbol?.name === "Response") return { kind: "content" };
    if (first.symbol?.name === "Stream") {
      const [event] = this.#checker.getTypeArguments(first as ts.TypeReference);
      if (event) return { kind: "stream", event };
    }
    return { kind: "object", type: first };
  }

  /** What is wrong with the body of a success. */
  body(method: string, value: unknown): string[] {
    const kind = this.kind(method);
    if (kind.kind === "object") return this.#check(value, kind.type, "body");
    if (kind.kind === "page") return this.#page(value, kind.page, kind.entry);
    return [];
  }

  /** What is wrong with one event of a stream. */
  event(method: string, value: unknown): string[] {
    const kind = this.kind(method);
    if (kind.kind !== "stream") return [`${method} is no stream`];
    return this.#check(value, kind.event, "event");
  }

  #property(type: ts.Type, name: string): ts.Type {
    const symbol = this.#checker.getPropertyOfType(type, name);
    if (!symbol) throw new Error(`the SDK declares no ${name} of ${this.#name(type)}`);
    return this.#checker.getTypeOfSymbol(symbol);
  }

  #name(type: ts.Type): string {
    return this.#checker.typeToString(type);
  }

  #page(value: unknown, page: ts.Type, entry: ts.Type): string[] {
    if (!isObject(value) || !Array.isArray(value["data"])) return ["body: is no page"];
    const problems: string[] = [];
    const known = new Set<string>();
    for (const one of this.#checker.getPropertiesOfType(page)) {
      const type = this.#checker.getTypeOfSymbol(one);
      const hidden = ts.ModifierFlags.NonPublicAccessibilityModifier;
      const [declared] = one.declarations ?? [];
      if (!declared || type.getCallSignatures().length > 0) continue;
      if (ts.getCombinedModifierFlags(declared) & hidden) continue;
      if (ts.isPropertyDeclaration(declared) && ts.isPrivateIdentifier(declared.name)) continue;
      known.add(one.name);
      if (!(one.name in value)) problems.push(`body.${one.name}: missing`);
      else if (one.name !== "data") {
        problems.push(...this.#check(value[one.name], type, `body.${one.name}`));
      }
    }
    for (const name of Object.keys(value)) {
      if (!known.has(name) && !ENDS.has(name)) problems.push(`body.${name}: unknown`);
    }
    const entries: unknown[] = value["data"];
    return problems.concat(entries.flatMap((one) => this.#check(one, entry, "body.data[]")));
  }

  #check(value: unknown, type: ts.Type, path: string): string[] {
    if (type.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return [];
    if (type.isUnion()) return this.#union(value, type, path);
    // `string & {}` is how the SDK says: these words, and others.
    if (type.isIntersection() && type.types.some((one) => one.flags & ts.TypeFlags.String)) {
      return typeof value === "string" ? [] : [`${path}: ${show(value)} is no string`];
    }
    if (type.flags & ts.TypeFlags.NonPrimitive) {
      return isObject(value) ? [] : [`${path}: ${show(value)} is no object`];
    }
    if (type.flags & ts.TypeFlags.Object || type.isIntersection()) {
      return this.#object(value, type, path);
    }
    return this.#isPrimitive(value, type)
      ? []
      : [`${path}: ${show(value)} is not ${this.#name(type)}`];
  }

  #isPrimitive(value: unknown, type: ts.Type): boolean {
    if (type.flags & ts.TypeFlags.Null) return value === null;
    if (type.isStringLiteral() || type.isNumberLiteral()) return value === type.value;
    if (type.flags & ts.TypeFlags.BooleanLiteral) return String(value) === this.#name(type);
    if (type.flags & ts.TypeFlags.String) return typeof value === "string";
    if (type.flags & ts.TypeFlags.Number) return typeof value === "number";
    if (type.flags & ts.TypeFlags.Boolean) return typeof value === "boolean";
    return false;
  }

  #union(value: unknown, union: ts.UnionType, path: string): string[] {
    const fits = isObject(value)
      ? union.types.filter((one) => this.#hasTagsOf(value, one))
      : union.types;
    const found = fits.map((one) => this.#check(value, one, path));
    if (found.some((one) => one.length === 0)) return [];
    const [only, ...others] = found;
    if (only && others.length === 0) return only;
    return [`${path}: ${show(value)} is none of ${this.#name(union)}`];
  }

  /** Whether an object has what tells this member of a union from the others. */
  #hasTagsOf(value: Record<string, unknown>, type: ts.Type): boolean {
    if (!(type.flags & ts.TypeFlags.Object)) return false;
    return this.#checker.getPropertiesOfType(type).every((one) => {
      const tag = this.#checker.getTypeOfSymbol(one);
      return one.name !== "type" || !tag.isStringLiteral() || value["type"] === tag.value;
    });
  }

  #object(value: unknown, type: ts.Type, path: string): string[] {
    if (this.#checker.isArrayType(type)) {
      if (!Array.isArray(value)) return [`${path}: ${show(value)} is no list`];
      const [entry] = this.#checker.getTypeArguments(type as ts.TypeReference);
      return entry ? value.flatMap((one) => this.#check(one, entry, `${path}[]`)) : [];
    }
    if (!isObject(value)) return [`${path}: ${show(value)} is no object`];
    const problems: string[] = [];
    const properties = this.#checker.getPropertiesOfType(type);
    for (const one of properties) {
      const below = `${path}.${one.name}`;
      if (value[one.name] === null && NULL_NOT_ABSENT.has(`${this.#name(type)}.${one.name}`)) {
        continue;
      }
      if (one.name in value) {
        problems.push(...this.#check(value[one.name], this.#checker.getTypeOfSymbol(one), below));
      } else if (!(one.flags & ts.SymbolFlags.Optional)) {
        problems.push(`${below}: missing`);
      }
    }
    const [index] = this.#checker.getIndexInfosOfType(type);
    const known = new Set(properties.map((one) => one.name));
    for (const [name, one] of Object.entries(value)) {
      if (known.has(name) || name === EXTENSION_FIELD) continue;
      if (index) problems.push(...this.#check(one, index.type, `${path}.${name}`));
      else problems.push(`${path}.${name}: ${this.#name(type)} has no such field`);
    }
    return problems;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 200);
}
