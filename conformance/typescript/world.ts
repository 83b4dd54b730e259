// A server, the scripted model behind it and SDK clients in front, with every response checked.
//
// The processes are those of the Python suite, started by its `serve.py`. They listen on loopback.

import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import Anthropic, { type ClientOptions } from "@anthropic-ai/sdk";
import { methods, route } from "./reflection.ts";
import { Shapes } from "./shapes.ts";

/** A model that takes everything. */
export const MODEL = "claude-opus-5";
/** How long anything may take before a test gives up on it, in milliseconds. */
export const BOUND = 10_000;

/** A reply of the scripted model; its README says what there is. */
export type Reply = Record<string, unknown>;

/** One attempt at one request, as it went over the wire. */
export interface Exchange {
  method: string;
  path: string;
  status: number;
  /** The SDK's own count of retries. */
  retry: number;
}

type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Stands between the SDK and the wire: may send a request, lose its answer, or fail. */
export type Meddle = (send: () => Promise<Response>) => Promise<Response>;

interface Said {
  url: string;
  api_key: string;
  model_url: string;
}

/** A server with its model. */
export class World {
  /** All that went over the wire since `begin`. */
  exchanges: Exchange[] = [];
  /** Methods of the SDK that were called since `begin`. */
  called = new Set<string>();
  readonly #shapes = new Shapes();
  readonly #calling = new AsyncLocalStorage<string>();
  /** Who has asked for a route last: pages after the first are asked for by no method. */
  readonly #askers = new Map<string, string>();
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #said: Said;
  #problems: string[] = [];
  #sessions: string[] = [];

  private constructor(process: ChildProcess, lines: AsyncIterator<string>, said: Said) {
    this.#process = process;
    this.#lines = lines;
    this.#said = said;
  }

  /** Starts the processes; `config` is the server's configuration file. */
  static async start(config = ""): Promise<World> {
    const python =
      process.env["POSTHOUSE_CONFORMANCE_PYTHON"] ??
      fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
    const script = fileURLToPath(new URL("../python/serve.py", import.meta.url));
    const child = spawn(python, [script, config], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new Error("serve.py has ended");
    return new World(child, lines, JSON.parse(first.value) as Said);
  }

  get url(): string {
    return this.#said.url;
  }

  get apiKey(): string {
    return this.#said.api_key;
  }

  /** A client that does not retry. */
  client(options: ClientOptions = {}, meddle?: Meddle): Anthropic {
    const client = new Anthropic({
      baseURL: this.#said.url,
      apiKey: this.#said.api_key,
      timeout: BOUND,
      maxRetries: 0,
      logLevel: "off",
      fetch: this.#fetch(meddle),
      ...options,
    });
    this.#name(client);
    return client;
  }

  /** Lets it be known, down at the wire, which method a request belongs to. */
  #name(client: Anthropic): void {
    for (const { name, resource, key } of methods(client)) {
      const original = resource[key] as (...given: unknown[]) => unknown;
      resource[key] = (...given: unknown[]): unknown => {
        this.called.add(name);
        return this.#calling.run(name, () => original.apply(resource, given));
      };
    }
  }

  #fetch(meddle?: Meddle): Fetch {
    return async (input, init) => {
      const request = new Request(input, init);
      // The SDK asks for an empty `data:` to learn what this `fetch` can send.
      if (!request.url.startsWith(this.#said.url)) return await fetch(input, init);
      const { pathname: path } = new URL(request.url);
      const asked = `${request.method} ${route(path)}`;
      const method = this.#calling.getStore() ?? this.#askers.get(asked);
      const send = async (): Promise<Response> => {
        const response = await fetch(input, init);
        const retry = Number(request.headers.get("x-stainless-retry-count") ?? 0);
        this.exchanges.push({ method: request.method, path, status: response.status, retry });
        if (!response.ok) return response;
        if (!method) {
          this.#problems.push(`${asked}: no method of the SDK has asked for this`);
          return response;
        }
        this.#askers.set(asked, method);
        return await this.#checked(response, method, asked);
      };
      return await (meddle ? meddle(send) : send());
    };
  }

  async #checked(response: Response, method: string, asked: string): Promise<Response> {
    const blame = (problems: string[]): void => {
      this.#problems.push(...problems.map((one) => `${asked}: ${one}`));
    };
    const type = response.headers.get("content-type") ?? "";
    if (type.startsWith("text/event-stream") && response.body) {
      const watch = new FrameWatch((event) => blame(this.#shapes.event(method, event)));
      return new Response(response.body.pipeThrough(watch.stream), response);
    }
    if (type.startsWith("application/json")) {
      const body: unknown = await response.clone().json();
      // A helper is refused or answered by the routes below it.
      if (this.#shapes.kind(method).kind !== "helper") blame(this.#shapes.body(method, body));
      if (asked === "POST /v1/sessions") this.#sessions.push((body as { id: string }).id);
    }
    return response;
  }

  // --- the scripted model

  /** Replaces the script. */
  async script(...replies: Reply[]): Promise<void> {
    const body = JSON.stringify({ replies });
    const response = await fetch(`${this.#said.model_url}/script`, { method: "PUT", body });
    if (!response.ok) throw new Error(await response.text());
  }

  // --- things to test with

  /** Makes an agent; returns its id. */
  async agent(settings: Partial<Anthropic.Beta.AgentCreateParams> = {}): Promise<string> {
    const made = await this.client().beta.agents.create({
      name: "tester",
      model: MODEL,
      ...settings,
    });
    return made.id;
  }

  /** Makes an environment; returns its id. */
  async environment(): Promise<string> {
    return (await this.client().beta.environments.create({ name: "conformance" })).id;
  }

  /** Makes a session with an agent of its own; returns its id. */
  async session(settings: Partial<Anthropic.Beta.AgentCreateParams> = {}): Promise<string> {
    const agent = await this.agent(settings);
    const environment_id = await this.environment();
    return (await this.client().beta.sessions.create({ agent, environment_id })).id;
  }

  /** Waits until a session rests. */
  async rested(session: string): Promise<void> {
    const end = Date.now() + BOUND;
    const client = this.client();
    while ((await client.beta.sessions.retrieve(session)).status !== "idle") {
      if (Date.now() > end) throw new Error(`${session} does not come to rest`);
      await new Promise((done) => setTimeout(done, 10));
    }
  }

  // --- the end of a test

  /** Before a test: an empty script and an empty record. */
  async begin(): Promise<void> {
    await this.script();
    this.exchanges = [];
    this.called = new Set();
  }

  /** After a test: brings its sessions to rest; returns what was wrong with anything. */
  async settle(): Promise<string[]> {
    const problems = [...new Set(this.#problems), ...(await this.#ask(this.#sessions))];
    this.#problems = [];
    this.#sessions = [];
    return problems;
  }

  async #ask(what: string[] | "restart"): Promise<string[]> {
    this.#process.stdin?.write(`${JSON.stringify(what)}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new Error("serve.py has ended");
    return JSON.parse(line.value) as string[];
  }

  /** Kills the server with SIGKILL, and starts it again with the same data. */
  async restart(): Promise<void> {
    await this.#ask("restart");
  }

  /** Ends everything. */
  async close(): Promise<void> {
    const gone = once(this.#process, "exit");
    this.#process.stdin?.end();
    await gone;
  }
}

/** Looks at the events of a stream on their way to the SDK. */
class FrameWatch {
  readonly stream: TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>;

  constructor(see: (event: unknown) => void) {
    const decoder = new TextDecoder();
    let rest = "";
    this.stream = new TransformStream({
      transform(chunk, out) {
        const frames = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
        rest = frames.pop() ?? "";
        for (const frame of frames) {
          const kind = /^event: (.*)$/m.exec(frame)?.[1];
          const data = /^data: (.*)$/m.exec(frame)?.[1];
          if (data && kind !== "ping" && kind !== "error") see(JSON.parse(data));
        }
        out.enqueue(chunk);
      },
    });
  }
}
