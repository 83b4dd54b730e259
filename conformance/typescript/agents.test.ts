// Agents as tools: called by the official TypeScript SDK's client of MCP servers.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type Anthropic from "@anthropic-ai/sdk";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  type CallToolResult,
  CallToolResultSchema,
  ElicitRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { says, uses, WEATHER } from "./calls.ts";
import { BOUND, World } from "./world.ts";

// An address that nobody has shown: fetching it is refused at once.
const UNSEEN = { url: "https://unseen.example/" };

let world: World;
before(async () => {
  world = await World.start();
});
after(() => world.close());
beforeEach(() => world.begin());
afterEach(async () => deepEqual(await world.settle(), []));

/** Makes an agent that is a tool. */
async function expose(name: string, tools: Anthropic.Beta.AgentCreateParams["tools"] = []) {
  const mcp_tool = { name, environment_id: await world.environment() };
  await world.agent({ name, tools, ...({ posthouse: { mcp_tool } } as object) });
}

/** A client of the server. It can ask somebody if there is an answer for him. */
async function connect(answer?: Record<string, string | boolean>, key = world.apiKey) {
  const capabilities = answer ? { elicitation: {} } : {};
  const client = new Client({ name: "conformance", version: "1" }, { capabilities });
  const asked: string[] = [];
  if (answer) {
    client.setRequestHandler(ElicitRequestSchema, (request) => {
      asked.push(request.params.message);
      return { action: "accept", content: answer };
    });
  }
  const address = new URL(`${world.url}/posthouse/v1/mcp`);
  const requestInit = { headers: { "x-api-key": key } };
  const transport = new StreamableHTTPClientTransport(address, { requestInit });
  await client.connect(transport as Transport);
  const told: (string | undefined)[] = [];
  const call = async (name: string, input: Record<string, unknown>): Promise<CallToolResult> => {
    const onprogress = (progress: { message?: string | undefined }): void => {
      told.push(progress.message);
    };
    const request = { method: "tools/call" as const, params: { name, arguments: input } };
    return await client.request(request, CallToolResultSchema, { onprogress, timeout: BOUND });
  };
  return { client, transport, call, asked, told };
}

function said(result: CallToolResult): string {
  const [block] = result.content;
  equal(result.content.length, 1);
  ok(block?.type === "text");
  return block.text;
}

test("an agent is started, followed and goes on", async () => {
  await expose("research");
  await world.script(says("It is so."), says("Still."));
  const { client, transport, call, told } = await connect();
  const { tools } = await client.listTools();
  deepEqual(
    tools.map((tool) => tool.name),
    ["research", "session_follow", "session_answer", "session_result", "session_stop"],
  );
  const done = await call("research", { message: "Is it?" });
  equal(said(done), "It is so.");
  ok(told.includes("It is so."));
  const session_id = done.structuredContent?.["session_id"];
  equal(said(await call("session_follow", { session_id })), "It is so.");
  equal(said(await call("research", { message: "And now?", session_id })), "Still.");
  const result = await call("session_result", { session_id });
  equal(said(result), "Still.");
  deepEqual(result.structuredContent?.["files"], []);
  await rejects(call("no_such", {}), /-32602/);
  await transport.terminateSession();
  await client.close();
});

test("somebody is asked for leave in the middle of a call", async () => {
  await expose("careful", [
    {
      type: "agent_toolset_20260401",
      default_config: { enabled: false },
      configs: [
        { name: "web_fetch", enabled: true, permission_policy: { type: "always_ask" } },
      ],
    },
  ]);
  await world.script(uses(["web_fetch", UNSEEN]), says("Then not."));
  const { client, call, asked } = await connect({ allow: false, note: "Not there." });
  equal(said(await call("careful", { message: "Look." })), "Then not.");
  equal(asked.length, 1);
  match(asked[0] ?? "", /unseen\.example/);
  await client.close();
});

test("a result is given by a tool", async () => {
  await expose("weatherman", [WEATHER]);
  await world.script(uses(["weather", { city: "Rome" }]), says("Sunny."));
  const { client, call } = await connect();
  const waits = await call("weatherman", { message: "How is it?" });
  const open = waits.structuredContent?.["open_calls"] as { id: string; awaits: string }[];
  deepEqual(
    open.map((one) => one.awaits),
    ["result"],
  );
  const session_id = waits.structuredContent?.["session_id"];
  const answer = { session_id, tool_use_id: open[0]?.id, result: "Sun." };
  equal(said(await call("session_answer", answer)), "Sunny.");
  await client.close();
});

test("a stranger is not let in", async () => {
  await rejects(connect(undefined, "wrong"), /401|Unauthorized|Authentication/);
});
