// Finds every method of the SDK's resources, and watches what a call of one sends and gets.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import type Anthropic from "@anthropic-ai/sdk";
import { APIResource } from "@anthropic-ai/sdk/core/resource";
import type { Exchange, World } from "./world.ts";

/** The namespaces that posthouse serves, as they are found on a client. */
const NAMESPACES = [
  ...["beta.agents", "beta.environments", "beta.sessions", "beta.vaults", "beta.files"],
  ...["beta.models", "files", "models"],
];
/** Where the results of a run go, for `compatibility.py`; without it they go nowhere. */
const RESULTS = "POSTHOUSE_CONFORMANCE_RESULTS";

type Members = Record<string, unknown>;

/** A method: its dotted name, and where it is. */
export interface Method {
  name: string;
  resource: Members;
  key: string;
}

/** All methods of the namespaces. */
export function methods(client: Anthropic): Method[] {
  return NAMESPACES.flatMap((path) => {
    let found = client as unknown;
    for (const name of path.split(".")) found = (found as Members)[name];
    return below(found as Members, path);
  });
}

function below(resource: Members, path: string): Method[] {
  const own = Object.getOwnPropertyNames(Object.getPrototypeOf(resource))
    .filter((key) => key !== "constructor" && !key.startsWith("_"))
    .map((key) => ({ name: `${path}.${key}`, resource, key }));
  const nested = Object.entries(resource)
    .filter(([, one]) => one instanceof APIResource)
    .flatMap(([key, one]) => below(one as unknown as Members, `${path}.${key}`));
  return [...own, ...nested];
}

const NAMES: Record<string, string> = {
  agent: "agent_id",
  env: "environment_id",
  sesn: "session_id",
  sthr: "thread_id",
  sesrsc: "resource_id",
  file: "file_id",
  vlt: "vault_id",
  vcrd: "credential_id",
  work: "work_id",
};

/** A path without what differs from call to call. */
export function route(path: string): string {
  return path
    .replace(/(?<=\/)([a-z]+)_[0-9A-Za-z]{24}/g, (all, kind: string) =>
      NAMES[kind] ? `{${NAMES[kind]}}` : all,
    )
    .replace(/^\/v1\/models\/.+/, "/v1/models/{model_id}");
}

/** One client, a world behind it, and the method that is to be called. */
export class Stage {
  readonly world: World;
  readonly client: Anthropic;
  readonly method: string;
  /** What went over the wire for the method. */
  exchanges: Exchange[] = [];
  /** Whether it was the method that was called. */
  called = false;

  constructor(world: World, method: string) {
    this.world = world;
    this.client = world.client();
    this.method = method;
  }

  /** The resource of this name on the client: `files` and `models` are there twice. */
  twin<Name extends "files" | "models">(name: Name): Anthropic[Name] | Anthropic.Beta[Name] {
    return this.method.startsWith("beta.") ? this.client.beta[name] : this.client[name];
  }

  /** Does what calls the method; what goes over the wire meanwhile is taken for its own. */
  async watch<Answer>(call: () => PromiseLike<Answer> | Answer): Promise<Answer> {
    const before = this.world.exchanges.length;
    this.world.called.delete(this.method);
    try {
      return await call();
    } finally {
      this.called ||= this.world.called.has(this.method);
      this.exchanges.push(...this.world.exchanges.slice(before));
    }
  }

  /** The same for a list: reads all its pages. */
  async every<Entry>(call: () => AsyncIterable<Entry>): Promise<Entry[]> {
    return await this.watch(async () => await Array.fromAsync(call()));
  }

  /** Writes down how the method fares; what is written last counts. */
  report(outcome: string): void {
    const folder = process.env[RESULTS];
    if (!folder) return;
    const routes = [...new Set(this.exchanges.map((one) => `${one.method} ${route(one.path)}`))];
    const method = this.method.replace("OAuth", "Oauth").replace(/[A-Z]/g, (one) => `_${one.toLowerCase()}`);
    const line = { sdk: "typescript", method, routes: routes.sort(), outcome, note: "" };
    appendFileSync(join(folder, "typescript.jsonl"), `${JSON.stringify(line)}\n`);
  }
}
