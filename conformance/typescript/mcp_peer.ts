// MCP servers made with the official TypeScript SDKs: the older one, with handshakes and sessions, and the
// newer one, without. A program of its own, which the Python suite starts.

import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { McpServer as OlderServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { isInitializeRequest } from "@modelcontextprotocol/sdk/types.js";
import { createMcpHandler, fromJsonSchema, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

const seen: Record<string, number> = {};
const note = (what: string): string => String((seen[what] = (seen[what] ?? 0) + 1));
const text = (said: string) => ({ content: [{ type: "text" as const, text: said }] });
const looks = { readOnlyHint: true, idempotentHint: true };
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The server of the older SDK. */
function older(): OlderServer {
  const server = new OlderServer({ name: "typescript older", version: "1" });
  const two = { a: z.number(), b: z.number() };
  server.registerTool(
    "add",
    { description: "Adds two numbers.", inputSchema: two, annotations: looks },
    ({ a, b }) => text(String(a + b)),
  );
  server.registerTool("count", { description: "Says how often it was called." }, () => text(note("count")));
  server.registerTool("fail", { description: "Fails." }, () => {
    throw new Error("it can't be done");
  });
  server.registerTool(
    "slow",
    { description: "Takes its time.", inputSchema: { seconds: z.number() } },
    async ({ seconds }, { signal, _meta, sendNotification }) => {
      note("slow");
      signal.addEventListener("abort", () => note("slow left"));
      for (let step = 0; step < 10; step++) {
        const progressToken = _meta?.progressToken;
        if (progressToken !== undefined)
          await sendNotification({
            method: "notifications/progress",
            params: { progressToken, progress: step, total: 10 },
          });
        await pause(seconds * 100);
      }
      return text("done");
    },
  );
  return server;
}

/** The server of the newer SDK. */
function newer(): McpServer {
  const server = new McpServer({ name: "typescript newer", version: "1" });
  const numbers = fromJsonSchema<{ a: number; b: number }>({
    type: "object",
    properties: { a: { type: "number" }, b: { type: "number" } },
    required: ["a", "b"],
  });
  const time = fromJsonSchema<{ seconds: number }>({
    type: "object",
    properties: { seconds: { type: "number" } },
    required: ["seconds"],
  });
  server.registerTool(
    "add",
    { description: "Adds two numbers.", inputSchema: numbers, annotations: looks },
    ({ a, b }) => text(String(a + b)),
  );
  server.registerTool("count", { description: "Says how often it was called." }, () => text(note("count")));
  server.registerTool("fail", { description: "Fails." }, () => {
    throw new Error("it can't be done");
  });
  server.registerTool("slow", { description: "Takes its time.", inputSchema: time }, async ({ seconds }, context) => {
    note("slow");
    context.mcpReq.signal.addEventListener("abort", () => note("slow left"));
    for (let step = 0; step < 10; step++) {
      const progressToken = context.mcpReq._meta?.progressToken;
      if (progressToken !== undefined)
        await context.mcpReq.notify({
          method: "notifications/progress",
          params: { progressToken, progress: step, total: 10 },
        });
      await pause(seconds * 100);
    }
    return text("done");
  });
  return server;
}

const sessions = new Map<string, StreamableHTTPServerTransport>();
const modern = createMcpHandler(() => newer(), { legacy: "reject" });

async function body(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

const http = createServer(async (request, response) => {
  const path = request.url ?? "";
  if (path === "/seen") {
    response.setHeader("content-type", "application/json").end(JSON.stringify(seen));
    return;
  }
  const revision = request.headers["mcp-protocol-version"];
  if (revision !== undefined) note(`${path.split("/")[1]} ${revision}`);
  const sent = await body(request);
  if (path === "/older/mcp") {
    const known = sessions.get(String(request.headers["mcp-session-id"]));
    const message: unknown = sent === "" ? undefined : JSON.parse(sent);
    if (known !== undefined) return known.handleRequest(request, response, message);
    if (!isInitializeRequest(message)) {
      const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ jsonrpc: "2.0", error, id: null }));
      return;
    }
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => void sessions.set(id, transport),
    });
    // The SDK's own types of the two do not agree under exactOptionalPropertyTypes.
    await older().connect(transport as Parameters<OlderServer["connect"]>[0]);
    return transport.handleRequest(request, response, message);
  }
  const left = new AbortController();
  response.on("close", () => left.abort());
  const { method = "GET" } = request;
  const headers = Object.entries(request.headers).map(([name, value]): [string, string] => [name, String(value)]);
  const asked = new Request(`http://${request.headers.host}${path}`, {
    method,
    headers,
    body: method === "POST" ? sent : null,
    signal: left.signal,
  });
  const answer = await modern.fetch(asked);
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body !== null) for await (const piece of answer.body) response.write(piece);
  response.end();
});

http.listen(0, "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(http.address() as AddressInfo).port}`);
});
