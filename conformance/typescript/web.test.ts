// Tools of the web: pages and hits as the SDK declares them. The site and the search engine are a
// server of this process.

import { deepEqual, equal, ok } from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type Anthropic from "@anthropic-ai/sdk";
import { message, TOOLSET, until } from "./calls.ts";
import { World } from "./world.ts";

const PAGE = "http://site.example.test/page";
const FOUND = [{ url: "https://a.example/", title: "A", content: "It goes." }];

type Result = Anthropic.Beta.Sessions.BetaManagedAgentsAgentToolResultEvent;

let site: Server;
let world: World;
before(async () => {
  site = createServer((request, response) => {
    const path = request.url ?? "";
    if (path.startsWith("/search?")) {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ results: FOUND }));
      return;
    }
    response.statusCode = path === "/page" ? 200 : 404;
    response.setHeader("content-type", "text/html");
    response.end("<title>Mail</title><p>It travels.");
  });
  await once(site.listen(0, "127.0.0.1"), "listening");
  const at = JSON.stringify(`127.0.0.1:${(site.address() as AddressInfo).port}`);
  world = await World.start(
    `[egress.resolve]\n"site.example.test" = ${at}\n"engine.example.test" = ${at}\n` +
      `[web.search]\nbackend = "searxng"\nbase_url = "http://engine.example.test"\n`,
  );
});
after(async () => {
  await world.close();
  site.close();
});
beforeEach(() => world.begin());
afterEach(async () => deepEqual(await world.settle(), []));

/** The result of one call of a tool. */
async function result(name: string, input: Record<string, string>): Promise<Result> {
  await world.script({ steps: [{ tool_use: { name, input } }] }, { steps: [{ text: "done" }] });
  const { events } = world.client().beta.sessions;
  const id = await world.session({ tools: [TOOLSET] });
  const stream = await events.stream(id);
  await events.send(id, { events: [message(`read ${PAGE}`)] });
  for (const event of await until(stream, "session.status_idle")) {
    if (event.type === "agent.tool_result") return event;
  }
  throw new Error("no result");
}

test("a page is a document", async () => {
  const { content, is_error } = await result("web_fetch", { url: PAGE });
  equal(is_error, false);
  const [page] = content ?? [];
  ok(page?.type === "document" && page.source.type === "text");
  equal(page.source.data, "---\ntitle: Mail\n---\n\nIt travels.");
  equal(page.title, "Mail");
});

test("a hit is a search result", async () => {
  const { content } = await result("web_search", { query: "mail" });
  const [hit] = content ?? [];
  ok(hit?.type === "search_result");
  deepEqual([hit.source, hit.title, hit.content, hit.citations], [
    "https://a.example/",
    "A",
    [{ type: "text", text: "It goes." }],
    { enabled: true },
  ]);
});

test("a page that nobody has shown is none", async () => {
  const { content, is_error } = await result("web_fetch", { url: "http://site.example.test/" });
  equal(is_error, true);
  const [said] = content ?? [];
  ok(said?.type === "text" && said.text.includes("url_not_in_prior_context"));
});
