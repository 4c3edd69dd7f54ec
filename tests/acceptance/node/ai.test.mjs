// Vercel's AI SDK against the gateway, for each provider: with its OpenAI provider and with the one for compatible APIs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { cells, image, loose, sawImage, stageOf } from "./stage.mjs";

const FLAVOURS = {
  "ai-openai": ({ base_url, key }) => createOpenAI({ baseURL: base_url, apiKey: key }).chat,
  "ai-compatible": ({ base_url, key }) =>
    createOpenAICompatible({ name: "perpetuo", baseURL: base_url, apiKey: key, includeUsage: true, supportsStructuredOutputs: true }),
};
const FINISH = { stop: "stop", length: "length", tool_calls: "tool-calls", content_filter: "content-filter" };
const PROMPT = { prompt: "hi", maxRetries: 0 };

function toolsOf(request) {
  const functions = (request.tools ?? []).map((entry) => entry.function);
  return Object.fromEntries(
    functions.map((spec) => [spec.name, tool({ description: spec.description, inputSchema: jsonSchema(spec.parameters) })]),
  );
}

/** Text, calls, finish and usage, as the SDK gives them from a whole answer and from a stream. */
async function check(result, expected) {
  const choice = expected.choices[0];
  assert.equal(await result.text, choice.text);
  assert.equal(await result.finishReason, FINISH[choice.finish]);
  const calls = (await result.toolCalls).map((call) => [call.toolCallId, call.toolName, call.input]);
  // A call that came without an id has one of the gateway's.
  assert.deepEqual(calls, choice.calls.map((call, at) => [call.id ?? calls[at]?.[0], call.name, loose(call.arguments)]));
  const { inputTokens, outputTokens } = await result.usage;
  assert.deepEqual([inputTokens, outputTokens], [expected.usage.prompt, expected.usage.completion]);
}

for (const [flavour, create] of Object.entries(FLAVOURS)) {
  const stage = stageOf(flavour);
  const modelFor = (id, name) => create({ ...stage, key: stage.keyFor(id) })(name);

  for (const feature of ["chat", "tools"]) {
    for (const { id, request, expected } of cells[feature]) {
      test(`${flavour}: ${feature} ${id}`, async () => {
        await stage.play(id);
        await check(await generateText({ ...PROMPT, model: modelFor(id, request.model), tools: toolsOf(request) }), expected);
      });
    }
  }

  for (const feature of ["stream", "tools_stream"]) {
    for (const { id, request, expected } of cells[feature]) {
      test(`${flavour}: ${feature} ${id}`, async () => {
        await stage.play(id);
        const errors = [];
        const onError = ({ error }) => errors.push(error);
        const result = streamText({ ...PROMPT, model: modelFor(id, request.model), tools: toolsOf(request), onError });
        await result.consumeStream();
        assert.deepEqual(errors, []);
        await check(result, expected);
      });
    }
  }

  for (const { id, request, expected } of cells.structured) {
    test(`${flavour}: structured ${id}`, async () => {
      await stage.play(id);
      const schema = jsonSchema(request.response_format.json_schema.schema);
      const { object } = await generateObject({ ...PROMPT, model: modelFor(id, request.model), schema });
      assert.deepEqual(object, JSON.parse(expected.choices[0].text));
    });
  }

  for (const { id, provider, request, expected } of cells.vision) {
    test(`${flavour}: vision ${id}`, async () => {
      await stage.play(id);
      const content = [{ type: "text", text: "What is this?" }, { type: "image", image }];
      const messages = [{ role: "user", content }];
      await check(await generateText({ model: modelFor(id, request.model), messages, maxRetries: 0 }), expected);
      const [received] = await stage.seen();
      assert.ok(sawImage(provider, JSON.parse(received.body)), received.body);
    });
  }

  for (const { id, request, expected, about_the_key } of cells.errors) {
    test(`${flavour}: error ${id}`, async () => {
      await stage.play(id);
      await assert.rejects(generateText({ ...PROMPT, model: modelFor(id, request.model) }), (error) => {
        assert.ok(APICallError.isInstance(error), error);
        assert.equal(error.statusCode, about_the_key ? 401 : expected.status);
        const said = JSON.parse(error.responseBody).error;
        if (about_the_key) assert.equal(said.code, "provider_key_invalid");
        else assert.equal(error.message, expected.error.message);
        return true;
      });
    });
  }

  test(`${flavour}: an upstream that hangs ends at the request's own deadline`, async () => {
    await stage.play({ hang: true });
    const headers = { "x-perpetuo-timeout": "1" };
    await assert.rejects(generateText({ ...PROMPT, model: create(stage)("groq/slow"), headers }), (error) => {
      assert.equal(error.statusCode, 504);
      assert.equal(JSON.parse(error.responseBody).error.code, "deadline_exceeded");
      return true;
    });
  });

  for (const failover of stage.failovers) {
    test(`${flavour}: failover after ${failover.failure}`, async () => {
      const result = streamText({ ...PROMPT, model: create(failover)("team-model") });
      assert.equal(await result.text, failover.expected.choices[0].text);
      const { headers } = await result.response;
      assert.deepEqual([headers["x-perpetuo-provider"], headers["x-perpetuo-attempts"]], [failover.second, "2"]);
    });
  }
}
