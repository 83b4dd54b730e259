// What the SDK does beyond single calls: streams, previews, pages, its tool runner, uploads, errors
// and retries.

import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, test } from "node:test";
import Anthropic, { type APIError, toFile } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { accumulateManagedAgentsEvent } from "@anthropic-ai/sdk/lib/sessions/accumulate";
import { message, says, TOOLSET, until, uses, WEATHER, weather } from "./calls.ts";
import { type Meddle, MODEL, World } from "./world.ts";

const UNKNOWN = "0123456789abcdefABCDEF01";

let world: World;
before(async () => {
  world = await World.start();
});
after(() => world.close());
beforeEach(() => world.begin());
afterEach(async () => deepEqual(await world.settle(), []));

async function refusal(promise: Promise<unknown>): Promise<APIError> {
  try {
    await promise;
  } catch (error) {
    ok(error instanceof Anthropic.APIError, String(error));
    return error;
  }
  throw new Error("it was not refused");
}

// --- streams

test("a message grows in the SDK's accumulator", async () => {
  const poem = "The mail went on, whatever the weather. ".repeat(4);
  await world.script({ steps: [{ text: poem, chunk: 7, pause_ms: 2 }] });
  const { events } = world.client().beta.sessions;
  const id = await world.session();
  const stream = await events.stream(id, { event_deltas: ["agent.message"] });
  await events.send(id, { events: [message("hi")] });
  const grown: string[] = [];
  let snapshot: ReturnType<typeof accumulateManagedAgentsEvent>;
  for (const event of await until(stream, "session.status_idle")) {
    snapshot = accumulateManagedAgentsEvent(snapshot, event);
    if (event.type !== "event_delta") continue;
    const texts = snapshot?.content.map((one) => (one.type === "text" ? one.text : ""));
    grown.push((texts ?? []).join(""));
  }
  ok(grown.length > 10);
  ok(grown.every((one) => poem.startsWith(one)));
  ok(grown.every((one, index) => one.length > (grown[index - 1] ?? "").length));
  equal(grown.at(-1), poem);
  deepEqual(snapshot?.content, [{ type: "text", text: poem }]);
});

test("a stream that is left and opened again misses nothing", async () => {
  await world.script(uses(["weather", { city: "Rome" }]), says("done"));
  const { events } = world.client().beta.sessions;
  const id = await world.session({ tools: [WEATHER] });
  const first = await events.stream(id);
  await events.send(id, { events: [message("hi")] });
  const call = (await until(first, "agent.custom_tool_use")).at(-1);
  // Leaving the loop has closed the connection.
  ok(first.controller.signal.aborted);
  await world.rested(id);
  const listed = await Array.fromAsync(events.list(id));
  const last = listed.findLast((one) => one.type === "session.status_idle");
  ok(last?.type === "session.status_idle" && last.stop_reason.type === "requires_action");
  const [custom_tool_use_id] = last.stop_reason.event_ids;
  ok(call?.type === "agent.custom_tool_use" && call.id === custom_tool_use_id);
  const second = await events.stream(id);
  const content = [{ type: "text" as const, text: "sunny" }];
  await events.send(id, {
    events: [{ type: "user.custom_tool_result", custom_tool_use_id, content }],
  });
  await until(second, "agent.message");
});

test("two readers of one stream hear the same", async () => {
  await world.script(says("hello"));
  const { events } = world.client().beta.sessions;
  const id = await world.session();
  const [left, right] = (await events.stream(id)).tee();
  await events.send(id, { events: [message("hi")] });
  const heard = await Promise.all([
    until(left, "session.status_idle"),
    until(right, "session.status_idle"),
  ]);
  deepEqual(heard[0], heard[1]);
  deepEqual(heard[0], await Array.fromAsync(events.list(id)));
});

// --- pages

test("lists are read page by page, forward and backward", async () => {
  const { sessions } = world.client().beta;
  const agent = await world.agent();
  const environment_id = await world.environment();
  const made: string[] = [];
  for (let count = 0; count < 5; count += 1) {
    made.unshift((await sessions.create({ agent, environment_id })).id);
  }
  const query = { agent_id: agent, limit: 2 };
  const first = await sessions.list(query);
  const pages = await Array.fromAsync(first.iterPages(), (page) => page.data.map((one) => one.id));
  deepEqual(pages, [made.slice(0, 2), made.slice(2, 4), made.slice(4)]);
  equal(first.prev_page, null);
  const second = await first.getNextPage();
  const third = await second.getNextPage();
  equal(third.hasNextPage(), false);
  await rejects(third.getNextPage(), Anthropic.AnthropicError);
  ok(third.prev_page && second.prev_page);
  const back = await sessions.list({ ...query, page: third.prev_page });
  deepEqual(back.data.map((one) => one.id), made.slice(2, 4));
  const start = await sessions.list({ ...query, page: second.prev_page });
  deepEqual(start.data.map((one) => one.id), made.slice(0, 2));
  // Oldest first is the same list, turned round.
  const oldest = await Array.fromAsync(sessions.list({ ...query, order: "asc" }));
  deepEqual(oldest.map((one) => one.id), made.toReversed());
});

test("models are read by ids, in both directions", async () => {
  const { models } = world.client();
  const all = (await Array.fromAsync(models.list({ limit: 1000 }))).map((one) => one.id);
  const one = await Array.fromAsync(models.list({ limit: 1 }));
  deepEqual(one.map((model) => model.id), all);
  const [, second, third] = all;
  ok(second && third);
  const after_id = second;
  deepEqual((await models.list({ limit: 1, after_id })).data.map((model) => model.id), [third]);
  const before = await models.list({ limit: 1, before_id: third });
  deepEqual(before.data.map((model) => model.id), [second]);
  // The SDK goes on backward by itself.
  const backward = await Array.fromAsync(models.list({ limit: 1, before_id: third }));
  deepEqual(backward.map((model) => model.id), [second, all[0]]);
});

// --- the tool runner

test("the tool runner answers several calls, and says what has failed", async () => {
  const broken = betaTool({
    name: "broken",
    description: "Never works.",
    inputSchema: { type: "object", properties: {} },
    run: () => {
      throw new Error("out of order");
    },
  });
  const declared = { ...WEATHER, name: "broken", input_schema: { type: "object" as const } };
  await world.script(
    uses(["weather", { city: "Rome" }], ["broken", {}], ["weather", { city: "Oslo" }]),
    says("done"),
  );
  const { events } = world.client().beta.sessions;
  const id = await world.session({ tools: [WEATHER, declared] });
  await events.send(id, { events: [message("hi")] });
  const runner = events.toolRunner(id, { tools: [weather, broken], maxIdleMs: 200 });
  const done = await Array.fromAsync(runner);
  deepEqual(done.map((one) => [one.name, one.isError, one.posted]).sort(), [
    ["broken", true, true],
    ["weather", false, true],
    ["weather", false, true],
  ]);
  const log = (await Array.fromAsync(events.list(id))).map((one) => one.type);
  equal(log.filter((one) => one === "user.custom_tool_result").length, 3);
  equal(log.filter((one) => one === "agent.message").length, 1);
});

test("the tool runner leaves confirmations to the user", async () => {
  await world.script(
    uses(["bash", { command: "ls" }], ["weather", { city: "Rome" }]),
    says("done"),
  );
  const { events } = world.client().beta.sessions;
  const asking = {
    ...TOOLSET,
    configs: [{ name: "bash" as const, permission_policy: { type: "always_ask" as const } }],
  };
  const id = await world.session({ tools: [asking, WEATHER] });
  await events.send(id, { events: [message("hi")] });
  const done: [string, boolean, string | undefined][] = [];
  for await (const call of events.toolRunner(id, { tools: [weather], maxIdleMs: 200 })) {
    done.push([call.name, call.posted, call.confirmation]);
    if (call.name !== "weather") continue;
    const listed = await Array.fromAsync(events.list(id));
    const use = listed.find((one) => one.type === "agent.tool_use");
    ok(use?.type === "agent.tool_use" && use.evaluated_permission === "ask");
    const deny = { type: "user.tool_confirmation", tool_use_id: use.id, result: "deny" } as const;
    await events.send(id, { events: [deny] });
  }
  deepEqual(done, [
    ["weather", true, undefined],
    ["bash", false, "deny"],
  ]);
});

// --- files

test("files are uploaded from everything that the SDK takes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "posthouse-conformance-"));
  try {
    const path = join(folder, "größe 1.txt");
    await writeFile(path, "hay\n");
    const { files } = world.client();
    const given = [
      createReadStream(path),
      await toFile(Buffer.from("hay\n"), "größe 1.txt", { type: "text/plain" }),
      await toFile(new Uint8Array([104, 97, 121, 10]), "größe 1.txt"),
      await toFile(Readable.from([Buffer.from("ha"), Buffer.from("y\n")]), "größe 1.txt"),
      await toFile(new Response("hay\n"), "größe 1.txt"),
      new File(["hay\n"], "größe 1.txt", { type: "text/plain" }),
    ];
    for (const file of given) {
      const made = await files.upload({ file });
      deepEqual([made.filename, made.size_bytes], ["größe 1.txt", 4]);
    }
    const twice = await files.upload({ file: await toFile(Buffer.from("hay\n"), "a.txt") });
    const error = await refusal(files.download(twice.id));
    ok(error instanceof Anthropic.BadRequestError);
    match(error.message, /is not downloadable/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

// --- responses and refusals

test("responses are there raw, with the id of their request", async () => {
  const { agents } = world.client().beta;
  const raw = await agents.create({ name: "raw", model: MODEL }).asResponse();
  const made = (await raw.json()) as { id: string };
  const { data, response, request_id } = await agents.retrieve(made.id).withResponse();
  equal(data.id, made.id);
  equal(request_id, response.headers.get("request-id"));
  const again = await agents.retrieve(made.id);
  ok(again._request_id);
  notEqual(again._request_id, request_id);
  ok(raw.headers.get("request-id"));
});

test("each refusal has its class, and is asked for once", async () => {
  const client = world.client({ maxRetries: 2 });
  const { agents } = client.beta;
  const agent = await world.agent();
  await agents.update(agent, { version: 1, name: "second" });
  type Kind = new (...given: never[]) => APIError;
  const cases: [() => Promise<unknown>, Kind, status: number, type: string, words: RegExp][] = [
    [
      () => agents.create({ name: "x", model: MODEL, horse: 1 } as never),
      ...([Anthropic.BadRequestError, 400, "invalid_request_error", /horse/] as const),
    ],
    [
      () => agents.retrieve("x"),
      ...([Anthropic.BadRequestError, 400, "invalid_request_error", /Invalid agent ID/] as const),
    ],
    [
      () => world.client({ apiKey: "wrong", maxRetries: 2 }).beta.agents.list(),
      ...([Anthropic.AuthenticationError, 401, "authentication_error", /failed/] as const),
    ],
    [
      () => agents.retrieve(agent, { workspace_id: `wrkspc_${UNKNOWN}` }),
      ...([Anthropic.PermissionDeniedError, 403, "permission_error", /./] as const),
    ],
    [
      () => agents.retrieve(`agent_${UNKNOWN}`),
      ...([Anthropic.NotFoundError, 404, "not_found_error", /Agent not found/] as const),
    ],
    [
      () => agents.update(agent, { version: 1, name: "third" }),
      ...([Anthropic.ConflictError, 409, "conflict_error", /version/i] as const),
    ],
  ];
  for (const [call, kind, status, type, words] of cases) {
    const error = await refusal(call());
    ok(error instanceof kind, `${error.name} instead of ${kind.name}`);
    deepEqual([error.status, error.type], [status, type]);
    match(error.message, words);
    const body = error.error as { request_id: string };
    ok(error.requestID && body.request_id === error.requestID);
  }
  const refused = world.exchanges.filter((one) => one.status >= 400);
  deepEqual(refused.map((one) => [one.status, one.retry]).sort(), [
    [400, 0],
    [400, 0],
    [401, 0],
    [403, 0],
    [404, 0],
    [409, 0],
  ]);
});

// --- retries

/** The server dies at the first request: before it has got it, or with the answer on its way. */
function dying(sent: boolean): Meddle {
  let lives = 1;
  return async (send) => {
    if (lives === 0) return await send();
    lives = 0;
    if (sent) await (await send()).arrayBuffer();
    await world.restart();
    throw new TypeError("fetch failed");
  };
}

for (const sent of [true, false]) {
  test(`nothing is done twice when ${sent ? "an answer" : "a request"} is lost`, async () => {
    await world.script({ times: 0, steps: [{ echo: true }] });
    const name = `once ${sent}`;
    const retrying = (): Anthropic => world.client({ maxRetries: 2 }, dying(sent));
    const agent = await retrying().beta.agents.create({ name, model: MODEL });
    const agents = await Array.fromAsync(world.client().beta.agents.list());
    deepEqual(agents.filter((one) => one.name === name).map((one) => one.id), [agent.id]);
    const environment_id = await world.environment();
    const { id } = await retrying().beta.sessions.create({ agent: agent.id, environment_id });
    const taken = await retrying().beta.sessions.events.send(id, { events: [message("hi")] });
    await world.rested(id);
    const log = await Array.fromAsync(world.client().beta.sessions.events.list(id));
    deepEqual(
      log.filter((one) => one.type === "user.message").map((one) => one.id),
      taken.data?.map((one) => one.id),
    );
    equal(world.exchanges.filter((one) => one.retry > 0).length, 3);
  });
}

test("the SDK gives up when a network stays away", async () => {
  let attempts = 0;
  const client = world.client({ maxRetries: 1 }, async () => {
    attempts += 1;
    throw new TypeError("fetch failed");
  });
  await rejects(client.beta.agents.list(), Anthropic.APIConnectionError);
  equal(attempts, 2);
});

// --- the object of our own

test("a session gets another model", async () => {
  const other = "claude-opus-4-6";
  const { sessions } = world.client().beta;
  const id = await world.session();
  const change = { posthouse: { model: other } } as Anthropic.Beta.SessionUpdateParams;
  equal((await sessions.update(id, change)).agent.model.id, other);
  const log = await Array.fromAsync(sessions.events.list(id));
  const updated = log.at(-1);
  ok(updated?.type === "session.updated" && updated.agent?.model?.id === other);
  await world.script({ ...says("hello"), when: { model: other } });
  const stream = await sessions.events.stream(id);
  await sessions.events.send(id, { events: [message("hi")] });
  await until(stream, "agent.message");
});
