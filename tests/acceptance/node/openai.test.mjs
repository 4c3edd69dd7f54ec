// openai-node against the gateway, for each provider.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { cells, image, loose, sawImage, stageOf } from "./stage.mjs";

const stage = stageOf("openai");
const client = new OpenAI({ baseURL: stage.base_url, apiKey: stage.key, maxRetries: 0 });
/** The client of the tenant that has this recording's provider. */
const clientFor = (id) => new OpenAI({ baseURL: stage.base_url, apiKey: stage.keyFor(id), maxRetries: 0 });
const HI = [{ role: "user", content: "hi" }];
const REFUSALS = { 400: OpenAI.BadRequestError, 401: OpenAI.AuthenticationError, 404: OpenAI.NotFoundError };

function checkUsage(usage, expected) {
  const { prompt, completion, total, cached } = expected.usage;
  const got = [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.prompt_tokens_details?.cached_tokens ?? 0];
  assert.deepEqual(got, [prompt, completion, total, cached]);
}

function checkMessage(message, finish, expected) {
  const choice = expected.choices[0];
  assert.equal(message.content ?? "", choice.text);
  assert.equal(finish, choice.finish);
  const calls = (message.tool_calls ?? []).map(({ id, function: called }) => [id, called.name, JSON.parse(called.arguments)]);
  // A call that came without an id has one of the gateway's.
  assert.deepEqual(calls, choice.calls.map((call, at) => [call.id ?? calls[at]?.[0], call.name, loose(call.arguments)]));
}

for (const feature of ["chat", "tools"]) {
  for (const { id, request, expected } of cells[feature]) {
    test(`${feature} ${id}`, async () => {
      await stage.play(id);
      const answer = await clientFor(id).chat.completions.create(request);
      checkMessage(answer.choices[0].message, answer.choices[0].finish_reason, expected);
      checkUsage(answer.usage, expected);
    });
  }
}

for (const feature of ["stream", "tools_stream"]) {
  for (const { id, request, expected } of cells[feature]) {
    test(`${feature} ${id}`, async () => {
      await stage.play(id);
      // The SDK's own accumulator, which checks that every chunk fits.
      const final = await clientFor(id).chat.completions.stream(request).finalChatCompletion();
      checkMessage(final.choices[0].message, final.choices[0].finish_reason, expected);
      checkUsage(final.usage, expected);
    });
  }
}

for (const { id, request, expected } of cells.structured) {
  test(`structured ${id}`, async () => {
    await stage.play(id);
    const answer = await clientFor(id).chat.completions.parse({ ...request, stream: false });
    assert.deepEqual(answer.choices[0].message.parsed, JSON.parse(expected.choices[0].text));
  });
}

for (const { id, provider, request, expected } of cells.vision) {
  test(`vision ${id}`, async () => {
    await stage.play(id);
    const content = [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: image } }];
    const messages = [{ role: "user", content }];
    const answer = await clientFor(id).chat.completions.create({ model: request.model, messages });
    checkMessage(answer.choices[0].message, answer.choices[0].finish_reason, expected);
    const [received] = await stage.seen();
    assert.ok(sawImage(provider, JSON.parse(received.body)), received.body);
  });
}

for (const { id, provider, request, expected, about_the_key } of cells.errors) {
  for (const stream of [false, true]) {
    test(`error ${id} ${stream ? "streamed" : "whole"}`, async () => {
      await stage.play(id);
      await assert.rejects(clientFor(id).chat.completions.create({ model: request.model, messages: HI, stream }), (error) => {
        assert.ok(error instanceof REFUSALS[error.status], error.constructor.name);
        assert.equal(error.status, about_the_key ? 401 : expected.status);
        assert.ok(error.requestID);
        if (about_the_key) {
          assert.equal(error.code, "provider_key_invalid");
          assert.match(error.message, new RegExp(provider));
        } else {
          assert.equal(error.error.message, expected.error.message);
        }
        return true;
      });
    });
  }
}

test("an upstream that hangs ends at the request's own deadline", async () => {
  await stage.play({ hang: true });
  await assert.rejects(client.chat.completions.create({ model: "openai/slow", messages: HI, timeout: 1 }), (error) => {
    assert.deepEqual([error.status, error.code], [504, "deadline_exceeded"]);
    return true;
  });
});

test("a client that gives up gets its own timeout error", async () => {
  await stage.play({ hang: true });
  const request = client.chat.completions.create({ model: "openai/slow", messages: HI }, { timeout: 1000 });
  await assert.rejects(request, OpenAI.APIConnectionTimeoutError);
});

for (const { failure, second, base_url, key, expected } of stage.failovers) {
  test(`failover after ${failure}`, async () => {
    const pair = new OpenAI({ baseURL: base_url, apiKey: key, maxRetries: 0 });
    const raw = pair.chat.completions.create({ model: "team-model", messages: HI, stream: true });
    const { data, response } = await raw.withResponse();
    let text = "";
    for await (const chunk of data) text += chunk.choices[0]?.delta.content ?? "";
    assert.equal(text, expected.choices[0].text);
    assert.equal(response.headers.get("x-perpetuo-provider"), second);
    assert.equal(response.headers.get("x-perpetuo-attempts"), "2");
  });
}

test("models are listed and found", async () => {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  assert.ok(listed.length > 3);
  assert.equal((await client.models.retrieve(listed[0])).id, listed[0]);
  await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
});
