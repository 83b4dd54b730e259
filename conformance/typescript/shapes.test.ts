// The checker of shapes itself: what it lets pass, and what it finds.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { test } from "node:test";
import { Shapes } from "./shapes.ts";

const SHAPES = new Shapes();
const TIME = "2026-01-02T03:04:05.678901Z";

function environment(): Record<string, unknown> {
  return {
    id: "env_0123456789abcdefABCDEF01",
    type: "environment",
    name: "stable",
    description: "",
    config: {
      type: "cloud",
      networking: { type: "unrestricted" },
      packages: { type: "packages", apt: [], cargo: [], gem: [], go: [], npm: [], pip: [] },
    },
    metadata: { a: "b" },
    scope: "organization",
    created_at: TIME,
    updated_at: TIME,
    archived_at: null,
  };
}

function found(change: (body: Record<string, any>) => void): string[] {
  const body = environment();
  change(body);
  return SHAPES.body("beta.environments.retrieve", body);
}

test("what is right passes", () => {
  deepEqual(found(() => {}), []);
  deepEqual(found((body) => (body["posthouse"] = { own: true })), []);
});

test("what is wrong is found", () => {
  const wrong: [RegExp, (body: Record<string, any>) => void][] = [
    [/^body\.name: missing$/, (body) => delete body["name"]],
    [/^body\.name: 7 is not string$/, (body) => (body["name"] = 7)],
    [/^body\.name: null is not string$/, (body) => (body["name"] = null)],
    [/^body\.horse: BetaEnvironment has no such field$/, (body) => (body["horse"] = 1)],
    [/^body\.type: "env" is not "environment"$/, (body) => (body["type"] = "env")],
    [/^body\.metadata\.a: 1 is not string$/, (body) => (body["metadata"] = { a: 1 })],
    [/^body\.metadata: \[\] is no object$/, (body) => (body["metadata"] = [])],
    [/^body\.config: .* is none of /, (body) => (body["config"] = { type: "moon" })],
    [/^body\.config\.packages\.apt\[\]: 1 is not/, (body) => (body["config"].packages.apt = [1])],
    [/^body\.config\.packages\.apt: "x" is no/, (body) => (body["config"].packages.apt = "x")],
    [/^body\.archived_at: 5 is none of/, (body) => (body["archived_at"] = 5)],
  ];
  for (const [words, change] of wrong) {
    const problems = found(change);
    equal(problems.length, 1, `${words}: ${problems.join("; ")}`);
    match(problems[0] ?? "", words);
  }
});

test("pages have their cursors and their entries", () => {
  const list = "beta.environments.list";
  const data = [environment()];
  deepEqual(SHAPES.body(list, { data, next_page: null }), []);
  deepEqual(SHAPES.body(list, { data }), ["body.next_page: missing"]);
  deepEqual(SHAPES.body(list, { data, next_page: null, page: 1 }), ["body.page: unknown"]);
  const empty = SHAPES.body(list, { data: [{}], next_page: null });
  ok(empty.includes("body.data[].id: missing"));
  deepEqual(SHAPES.body(list, []), ["body: is no page"]);
  deepEqual(SHAPES.body("beta.sessions.list", { data: [], next_page: null }), [
    "body.prev_page: missing",
  ]);
});

test("events of streams are members of their union", () => {
  const stream = "beta.sessions.events.stream";
  const event = { type: "session.deleted", id: "sevt_1", processed_at: TIME };
  deepEqual(SHAPES.event(stream, event), []);
  match(SHAPES.event(stream, { ...event, type: "session.lost" })[0] ?? "", /is none of/);
  deepEqual(SHAPES.event(stream, { type: event.type, id: event.id }), [
    "event.processed_at: missing",
  ]);
});
