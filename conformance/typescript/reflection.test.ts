// Every method of the SDK's client, found by reflection and called for real.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { CALLS } from "./calls.ts";
import { methods, Stage } from "./reflection.ts";
import { World } from "./world.ts";

const METHODS = methods(new Anthropic({ apiKey: "none" })).map((one) => one.name);

let world: World;
before(async () => {
  world = await World.start();
});
after(() => world.close());
beforeEach(() => world.begin());

test("every method has a call and every call a method", () => {
  deepEqual([...CALLS.keys()].sort(), METHODS.toSorted());
  ok(METHODS.length > 50);
});

for (const method of METHODS) {
  test(method, { timeout: 30_000 }, async () => {
    const call = CALLS.get(method);
    const stage = new Stage(world, method);
    stage.report("fails");
    ok(call, `${method} is new in the SDK: add its call to calls.ts`);
    const { refused } = call;
    if (refused) {
      await rejects(call.run(stage), (error: unknown) => {
        ok(error instanceof refused.error && error instanceof APIError);
        ok(error.type === "not_found_error" || error.type === "invalid_request_error");
        ok(refused.words.test(error.message), error.message);
        return true;
      });
    } else {
      await call.run(stage);
    }
    ok(stage.called, "the call is one of another method");
    const statuses = new Set(stage.exchanges.map((one) => one.status));
    deepEqual([...statuses], [refused?.status ?? 200]);
    deepEqual(await world.settle(), []);
    equal(call.outcome === "works", !refused);
    stage.report(call.outcome);
  });
}
