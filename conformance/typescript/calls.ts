// One call of each method of the SDK, and what has to come of it.
//
// Those that the server refuses stand here as well. Why they are refused is said in the Python
// suite.

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import Anthropic, { type APIError, toFile } from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import type { Stage } from "./reflection.ts";
import { MODEL, type Reply } from "./world.ts";

const WORK = "work_0123456789abcdefABCDEF01";
const REPORT = "7 horses";
const CSV = "a,b\n";

/** How a method is called, and how it is refused if it is. */
export interface Call {
  run(stage: Stage): Promise<void>;
  refused?: { error: new (...given: never[]) => APIError; status: number; words: RegExp };
  /** "refused" is for good, "not yet" until the server can do it. */
  outcome: "works" | "refused" | "not yet";
}

type Run = (stage: Stage) => Promise<void>;

function works(run: Run): Call {
  return { run, outcome: "works" };
}

/** A method of the queue of work for environments that somebody else hosts. */
function noWork(call: (stage: Stage, environment_id: string) => PromiseLike<unknown>): Call {
  const run: Run = async (stage) => {
    const environment = await stage.world.environment();
    await stage.watch(() => call(stage, environment));
  };
  const refused = { error: Anthropic.NotFoundError, status: 404, words: /Not found/ };
  return { run, outcome: "not yet", refused };
}

// --- what tests say often

/** A `user.message`. */
export function message(text: string): Anthropic.Beta.Sessions.BetaManagedAgentsEventParams {
  return { type: "user.message", content: [{ type: "text", text }] };
}

/** A reply that says something. */
export function says(text: string): Reply {
  return { steps: [{ text }] };
}

/** A reply that calls tools. */
export function uses(...calls: [name: string, input: Record<string, unknown>][]): Reply {
  return { steps: calls.map(([name, input]) => ({ tool_use: { name, input } })) };
}

/** Reads a stream up to and with the first event of a type. */
export async function until<Event extends { type: string }>(
  stream: AsyncIterable<Event>,
  type: Event["type"],
): Promise<Event[]> {
  const seen: Event[] = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === type) return seen;
  }
  throw new Error(`the stream has ended; so far ${seen.map((one) => one.type).join(" ")}`);
}

/** A tool of the SDK, as it is run here. */
export const weather = betaTool({
  name: "weather",
  description: "Says how the weather is.",
  inputSchema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
  run: ({ city }) => `sunny in ${city}`,
});

/** The same tool, as an agent declares it. */
export const WEATHER: Anthropic.Beta.Agents.BetaManagedAgentsCustomToolParams = {
  type: "custom",
  name: "weather",
  description: "Says how the weather is.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
};

/** The server's own tools. */
export const TOOLSET = { type: "agent_toolset_20260401" } as const;

async function say(stage: Stage, session: string): Promise<void> {
  await stage.client.beta.sessions.events.send(session, { events: [message("hi")] });
}

/** A session in which something was said. */
async function talk(stage: Stage): Promise<string> {
  await stage.world.script(says("hello"));
  const session = await stage.world.session();
  await say(stage, session);
  await stage.world.rested(session);
  return session;
}

/** The same with its thread. */
async function withThread(stage: Stage): Promise<[session_id: string, thread: string]> {
  const session = await talk(stage);
  const [thread] = (await stage.client.beta.sessions.threads.list(session)).data;
  ok(thread);
  return [session, thread.id];
}

async function upload(stage: Stage): Promise<string> {
  const file = await toFile(Buffer.from(CSV), "a.csv", { type: "text/csv" });
  return (await stage.client.beta.files.upload({ file })).id;
}

/** A session with a resource. */
async function mounted(stage: Stage): Promise<[session_id: string, resource: string]> {
  const session = await stage.world.session();
  const file_id = await upload(stage);
  const { resources } = stage.client.beta.sessions;
  return [session, (await resources.add(session, { type: "file", file_id })).id];
}

async function thrice(make: () => Promise<string>): Promise<string[]> {
  return [await make(), await make(), await make()];
}

/** Entries are listed newest first; those that a test has made stand before those of others. */
function newestFirst(entries: { id: string }[], made: string[]): void {
  const ids = entries.slice(0, made.length).map((one) => one.id);
  deepEqual(ids, made.toReversed());
}

// --- the calls

const AGENTS: Record<string, Call> = {
  create: works(async (stage) => {
    const made = await stage.watch(() =>
      stage.client.beta.agents.create({
        name: "clerk",
        model: MODEL,
        system: "Be brief.",
        tools: [TOOLSET, WEATHER],
      }),
    );
    deepEqual([made.name, made.model.id, made.version], ["clerk", MODEL, 1]);
    deepEqual(made.tools.map((one) => one.type), ["agent_toolset_20260401", "custom"]);
  }),
  retrieve: works(async (stage) => {
    const agent = await stage.world.agent();
    equal((await stage.watch(() => stage.client.beta.agents.retrieve(agent))).id, agent);
  }),
  update: works(async (stage) => {
    const agent = await stage.world.agent();
    const changed = await stage.watch(() =>
      stage.client.beta.agents.update(agent, { version: 1, name: "renamed" }),
    );
    deepEqual([changed.id, changed.name, changed.version], [agent, "renamed", 2]);
  }),
  list: works(async (stage) => {
    const made = await thrice(() => stage.world.agent());
    newestFirst(await stage.every(() => stage.client.beta.agents.list({ limit: 2 })), made);
  }),
  archive: works(async (stage) => {
    const agent = await stage.world.agent();
    notEqual((await stage.watch(() => stage.client.beta.agents.archive(agent))).archived_at, null);
  }),
  "versions.list": works(async (stage) => {
    const agent = await stage.world.agent();
    await stage.client.beta.agents.update(agent, { version: 1, name: "renamed" });
    const { versions } = stage.client.beta.agents;
    const listed = await stage.every(() => versions.list(agent, { limit: 1 }));
    deepEqual(listed.map((one) => one.version), [2, 1]);
  }),
};

const ENVIRONMENTS: Record<string, Call> = {
  create: works(async (stage) => {
    const made = await stage.watch(() =>
      stage.client.beta.environments.create({ name: "stable", metadata: { a: "b" } }),
    );
    deepEqual([made.name, made.metadata], ["stable", { a: "b" }]);
  }),
  retrieve: works(async (stage) => {
    const id = await stage.world.environment();
    equal((await stage.watch(() => stage.client.beta.environments.retrieve(id))).id, id);
  }),
  update: works(async (stage) => {
    const id = await stage.world.environment();
    const { environments } = stage.client.beta;
    const changed = await stage.watch(() => environments.update(id, { description: "straw" }));
    equal(changed.description, "straw");
  }),
  list: works(async (stage) => {
    const made = await thrice(() => stage.world.environment());
    newestFirst(await stage.every(() => stage.client.beta.environments.list({ limit: 2 })), made);
  }),
  delete: works(async (stage) => {
    const id = await stage.world.environment();
    const gone = await stage.watch(() => stage.client.beta.environments.delete(id));
    deepEqual([gone.id, gone.type], [id, "environment_deleted"]);
  }),
  archive: works(async (stage) => {
    const id = await stage.world.environment();
    const { environments } = stage.client.beta;
    notEqual((await stage.watch(() => environments.archive(id))).archived_at, null);
  }),
  "work.retrieve": noWork(({ client }, environment_id) =>
    client.beta.environments.work.retrieve(WORK, { environment_id }),
  ),
  "work.update": noWork(({ client }, environment_id) =>
    client.beta.environments.work.update(WORK, { environment_id, metadata: { a: "b" } }),
  ),
  "work.list": noWork(({ client }, environment_id) =>
    Array.fromAsync(client.beta.environments.work.list(environment_id)),
  ),
  "work.ack": noWork(({ client }, environment_id) =>
    client.beta.environments.work.ack(WORK, { environment_id }),
  ),
  "work.heartbeat": noWork(({ client }, environment_id) =>
    client.beta.environments.work.heartbeat(WORK, { environment_id }),
  ),
  "work.poll": noWork(({ client }, environment_id) =>
    client.beta.environments.work.poll(environment_id),
  ),
  "work.stats": noWork(({ client }, environment_id) =>
    client.beta.environments.work.stats(environment_id),
  ),
  "work.stop": noWork(({ client }, environment_id) =>
    client.beta.environments.work.stop(WORK, { environment_id }),
  ),
  // The key of the server stands for the key of an environment: a route that is none is refused to
  // both.
  "work.poller": noWork(({ client, world }, environmentId) =>
    Array.fromAsync(
      client.beta.environments.work.poller({
        environmentId,
        environmentKey: world.apiKey,
        drain: true,
      }),
    ),
  ),
  "work.worker": noWork(({ client, world }, environmentId) =>
    client.beta.environments.work.worker({ environmentId, environmentKey: world.apiKey }).run(),
  ),
};

const SESSIONS: Record<string, Call> = {
  create: works(async (stage) => {
    const [agent, environment_id] = [await stage.world.agent(), await stage.world.environment()];
    const made = await stage.watch(() =>
      stage.client.beta.sessions.create({ agent, environment_id, title: "a day out" }),
    );
    deepEqual([made.agent.id, made.title, made.status], [agent, "a day out", "idle"]);
  }),
  retrieve: works(async (stage) => {
    const id = await stage.world.session();
    equal((await stage.watch(() => stage.client.beta.sessions.retrieve(id))).id, id);
  }),
  update: works(async (stage) => {
    const id = await stage.world.session();
    const { sessions } = stage.client.beta;
    const changed = await stage.watch(() => sessions.update(id, { title: "renamed" }));
    equal(changed.title, "renamed");
  }),
  list: works(async (stage) => {
    const made = await thrice(() => stage.world.session());
    newestFirst(await stage.every(() => stage.client.beta.sessions.list({ limit: 2 })), made);
  }),
  delete: works(async (stage) => {
    const id = await stage.world.session();
    const gone = await stage.watch(() => stage.client.beta.sessions.delete(id));
    deepEqual([gone.id, gone.type], [id, "session_deleted"]);
  }),
  archive: works(async (stage) => {
    const id = await stage.world.session();
    notEqual((await stage.watch(() => stage.client.beta.sessions.archive(id))).archived_at, null);
  }),
  "events.send": works(async (stage) => {
    await stage.world.script(says("hello"));
    const id = await stage.world.session();
    const { events } = stage.client.beta.sessions;
    const taken = await stage.watch(() => events.send(id, { events: [message("hi")] }));
    deepEqual(taken.data?.map((one) => one.type), ["user.message"]);
  }),
  "events.list": works(async (stage) => {
    const id = await talk(stage);
    const { events } = stage.client.beta.sessions;
    const listed = await stage.every(() => events.list(id, { limit: 3 }));
    equal(listed[0]?.type, "session.status_running");
    equal(listed.at(-1)?.type, "session.status_idle");
    ok(listed.some((one) => one.type === "agent.message"));
  }),
  "events.stream": works(async (stage) => {
    await stage.world.script(says("hello"));
    const id = await stage.world.session();
    const stream = await stage.watch(() => stage.client.beta.sessions.events.stream(id));
    await say(stage, id);
    const heard = await until(stream, "session.status_idle");
    deepEqual(
      heard.flatMap((one) => (one.type === "agent.message" ? one.content : [])),
      [{ type: "text", text: "hello" }],
    );
  }),
  "events.toolRunner": works(async (stage) => {
    await stage.world.script(uses(["weather", { city: "Rome" }]), says("done"));
    const id = await stage.world.session({ tools: [WEATHER] });
    await say(stage, id);
    await stage.world.rested(id);
    const { events } = stage.client.beta.sessions;
    const done = await stage.every(() =>
      events.toolRunner(id, { tools: [weather], maxIdleMs: 100 }),
    );
    deepEqual(done.map((one) => [one.name, one.isError, one.posted]), [["weather", false, true]]);
  }),
  "resources.add": works(async (stage) => {
    const [id, file_id] = [await stage.world.session(), await upload(stage)];
    const made = await stage.watch(() =>
      stage.client.beta.sessions.resources.add(id, {
        type: "file",
        file_id,
        mount_path: "/data/a.csv",
      }),
    );
    deepEqual([made.type, made.mount_path], ["file", "/mnt/session/uploads/data/a.csv"]);
  }),
  "resources.retrieve": works(async (stage) => {
    const [session_id, id] = await mounted(stage);
    const { resources } = stage.client.beta.sessions;
    const shown = await stage.watch(() => resources.retrieve(id, { session_id }));
    ok(shown.type === "file" && shown.id === id);
  }),
  "resources.update": {
    run: async (stage) => {
      const [session_id, id] = await mounted(stage);
      const { resources } = stage.client.beta.sessions;
      const change = { session_id, authorization_token: "secret" };
      await stage.watch(() => resources.update(id, change));
    },
    refused: {
      error: Anthropic.BadRequestError,
      status: 400,
      words: /authorization_token: only a github_repository has one/,
    },
    outcome: "not yet",
  },
  "resources.list": works(async (stage) => {
    const [session_id, id] = await mounted(stage);
    const listed = await stage.every(() => stage.client.beta.sessions.resources.list(session_id));
    deepEqual(listed.map((one) => one.type === "file" && one.id), [id]);
  }),
  "resources.delete": works(async (stage) => {
    const [session_id, id] = await mounted(stage);
    const { resources } = stage.client.beta.sessions;
    equal((await stage.watch(() => resources.delete(id, { session_id }))).id, id);
  }),
  "threads.retrieve": works(async (stage) => {
    const [session_id, id] = await withThread(stage);
    const { threads } = stage.client.beta.sessions;
    equal((await stage.watch(() => threads.retrieve(id, { session_id }))).id, id);
  }),
  "threads.list": works(async (stage) => {
    const [session_id, id] = await withThread(stage);
    const listed = await stage.every(() => stage.client.beta.sessions.threads.list(session_id));
    deepEqual(listed.map((one) => one.id), [id]);
  }),
  "threads.archive": {
    run: async (stage) => {
      const [session_id, id] = await withThread(stage);
      const { threads } = stage.client.beta.sessions;
      await stage.watch(() => threads.archive(id, { session_id }));
    },
    refused: {
      error: Anthropic.BadRequestError,
      status: 400,
      words: /The primary thread can't be archived/,
    },
    outcome: "refused",
  },
  "threads.events.list": works(async (stage) => {
    const [session_id, id] = await withThread(stage);
    const { events } = stage.client.beta.sessions.threads;
    const listed = await stage.every(() => events.list(id, { session_id, limit: 3 }));
    ok(listed.some((one) => one.type === "agent.message"));
  }),
  "threads.events.stream": works(async (stage) => {
    const [session_id, id] = await withThread(stage);
    await stage.world.script(says("hello"));
    const { events } = stage.client.beta.sessions.threads;
    const stream = await stage.watch(() => events.stream(id, { session_id }));
    await say(stage, session_id);
    const heard = await until(stream, "session.thread_status_idle");
    ok(heard.some((one) => one.type === "agent.message"));
  }),
};

/** Out of every server's reach: a probe of it dials nothing. */
const MCP_SERVER = "https://127.0.0.1:1/mcp";

async function newVault({ client }: Stage): Promise<string> {
  return (await client.beta.vaults.create({ display_name: "Ada" })).id;
}

/** A credential of a vault, for a variable of that name. */
async function keep({ client }: Stage, vault: string, secret_name: string): Promise<string> {
  const made = await client.beta.vaults.credentials.create(vault, {
    auth: {
      type: "environment_variable",
      secret_name,
      secret_value: "s",
      networking: { type: "limited", allowed_hosts: ["api.example.com"] },
    },
  });
  return made.id;
}

/** A vault with a credential. */
async function held(stage: Stage): Promise<[vault_id: string, credential: string]> {
  const vault = await newVault(stage);
  return [vault, await keep(stage, vault, "TOKEN")];
}

const VAULTS: Record<string, Call> = {
  create: works(async (stage) => {
    const made = await stage.watch(() =>
      stage.client.beta.vaults.create({ display_name: "Ada", metadata: { a: "b" } }),
    );
    deepEqual([made.type, made.display_name, made.metadata], ["vault", "Ada", { a: "b" }]);
  }),
  retrieve: works(async (stage) => {
    const id = await newVault(stage);
    equal((await stage.watch(() => stage.client.beta.vaults.retrieve(id))).id, id);
  }),
  update: works(async (stage) => {
    const id = await newVault(stage);
    const { vaults } = stage.client.beta;
    const changed = await stage.watch(() => vaults.update(id, { display_name: "Bob" }));
    equal(changed.display_name, "Bob");
  }),
  list: works(async (stage) => {
    const made = await thrice(() => newVault(stage));
    newestFirst(await stage.every(() => stage.client.beta.vaults.list({ limit: 2 })), made);
  }),
  archive: works(async (stage) => {
    const id = await newVault(stage);
    notEqual((await stage.watch(() => stage.client.beta.vaults.archive(id))).archived_at, null);
  }),
  delete: works(async (stage) => {
    const id = await newVault(stage);
    const gone = await stage.watch(() => stage.client.beta.vaults.delete(id));
    deepEqual([gone.id, gone.type], [id, "vault_deleted"]);
  }),
  "credentials.create": works(async (stage) => {
    const vault = await newVault(stage);
    const made = await stage.watch(() =>
      stage.client.beta.vaults.credentials.create(vault, {
        auth: { type: "static_bearer", mcp_server_url: MCP_SERVER, token: "t" },
        display_name: "n",
      }),
    );
    deepEqual([made.vault_id, made.display_name, made.auth.type], [vault, "n", "static_bearer"]);
  }),
  "credentials.retrieve": works(async (stage) => {
    const [vault_id, id] = await held(stage);
    const { credentials } = stage.client.beta.vaults;
    equal((await stage.watch(() => credentials.retrieve(id, { vault_id }))).id, id);
  }),
  "credentials.update": works(async (stage) => {
    const [vault_id, id] = await held(stage);
    const { credentials } = stage.client.beta.vaults;
    const changed = await stage.watch(() =>
      credentials.update(id, {
        vault_id,
        auth: { type: "environment_variable", injection_location: { body: false } },
      }),
    );
    ok(changed.auth.type === "environment_variable");
    deepEqual(changed.auth.injection_location, { header: true, body: false });
  }),
  "credentials.list": works(async (stage) => {
    const [vault, first] = await held(stage);
    const made = [first, await keep(stage, vault, "TWO"), await keep(stage, vault, "THREE")];
    const { credentials } = stage.client.beta.vaults;
    newestFirst(await stage.every(() => credentials.list(vault, { limit: 2 })), made);
  }),
  "credentials.archive": works(async (stage) => {
    const [vault_id, id] = await held(stage);
    const { credentials } = stage.client.beta.vaults;
    notEqual((await stage.watch(() => credentials.archive(id, { vault_id }))).archived_at, null);
  }),
  "credentials.delete": works(async (stage) => {
    const [vault_id, id] = await held(stage);
    const { credentials } = stage.client.beta.vaults;
    const gone = await stage.watch(() => credentials.delete(id, { vault_id }));
    deepEqual([gone.id, gone.type], [id, "vault_credential_deleted"]);
  }),
  "credentials.mcpOAuthValidate": works(async (stage) => {
    const vault_id = await newVault(stage);
    const { credentials } = stage.client.beta.vaults;
    const auth = { type: "mcp_oauth", mcp_server_url: MCP_SERVER, access_token: "t" } as const;
    const { id } = await credentials.create(vault_id, { auth });
    const found = await stage.watch(() => credentials.mcpOAuthValidate(id, { vault_id }));
    deepEqual([found.credential_id, found.status, found.refresh], [id, "unknown", null]);
  }),
};

const FILES: Record<string, Call> = {
  upload: works(async (stage) => {
    const file = await toFile(Buffer.from(CSV), "a.csv", { type: "text/csv" });
    const made = await stage.watch(() => stage.twin("files").upload({ file }));
    deepEqual([made.filename, made.mime_type, made.size_bytes], ["a.csv", "text/csv", 4]);
  }),
  list: works(async (stage) => {
    const made = await thrice(() => upload(stage));
    newestFirst(await stage.every(() => stage.twin("files").list({ limit: 2 })), made);
  }),
  retrieveMetadata: works(async (stage) => {
    const id = await upload(stage);
    equal((await stage.watch(() => stage.twin("files").retrieveMetadata(id))).id, id);
  }),
  delete: works(async (stage) => {
    const id = await upload(stage);
    equal((await stage.watch(() => stage.twin("files").delete(id))).id, id);
  }),
  download: works(async (stage) => {
    const command = `echo ${REPORT} > /mnt/session/outputs/report.txt`;
    await stage.world.script(uses(["bash", { command }]), says("done"));
    const session = await stage.world.session({ tools: [TOOLSET] });
    await say(stage, session);
    await stage.world.rested(session);
    const [report] = (await stage.client.beta.files.list({ scope_id: session })).data;
    ok(report);
    const content = await stage.watch(() => stage.twin("files").download(report.id));
    equal(await content.text(), `${REPORT}\n`);
  }),
};

const MODELS: Record<string, Call> = {
  list: works(async (stage) => {
    const listed = await stage.every(() => stage.twin("models").list({ limit: 1 }));
    ok(listed.length > 1);
    equal(new Set(listed.map((one) => one.id)).size, listed.length);
  }),
  retrieve: works(async (stage) => {
    const shown = await stage.watch(() => stage.twin("models").retrieve(MODEL));
    deepEqual([shown.id, shown.type], [MODEL, "model"]);
  }),
};

function under(path: string, calls: Record<string, Call>): [string, Call][] {
  return Object.entries(calls).map(([name, call]) => [`${path}.${name}`, call]);
}

/** All calls, by the names of the methods. */
export const CALLS: ReadonlyMap<string, Call> = new Map([
  ...under("beta.agents", AGENTS),
  ...under("beta.environments", ENVIRONMENTS),
  ...under("beta.sessions", SESSIONS),
  ...under("beta.vaults", VAULTS),
  ...under("beta.files", FILES),
  ...under("beta.models", MODELS),
  ...under("files", FILES),
  ...under("models", MODELS),
]);
