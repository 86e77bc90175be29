// The official `openai` Node SDK against a chat-completions server, in short; openai_chat.py asks
// the same questions at length.
//
//     openai_chat.mjs BASE_URL MODEL [--deterministic] [--quorate]
//
// One line a check, then `N passed, N failed`; the exit code is 1 when anything failed. The SDK is
// found in the folder that this runs in, because that is where it was installed.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.join(process.cwd(), 'package.json'));
const OpenAI = require('openai');
const { VERSION: version } = require('openai/version');

const [baseURL, model, ...flags] = process.argv.slice(2);
if (!model) {
  console.error('usage: openai_chat.mjs BASE_URL MODEL [--deterministic] [--quorate]');
  process.exit(2);
}
const deterministic = flags.includes('--deterministic');
const quorate = flags.includes('--quorate');

// No retry inside the SDK: it would hide a server that fails every second time. Of a server that is not ours only the
// answers are looked at, and llama.cpp's now and then closes a connection that is being used again.
const maxRetries = quorate ? 0 : 2;
const client = new OpenAI({ baseURL, apiKey: 'unused', maxRetries, timeout: 120_000 });
const request = (more = {}) => ({
  model,
  messages: [{ role: 'user', content: 'Name three colours, and say in one sentence each where one meets them.' }],
  max_tokens: 24,
  temperature: 0,
  seed: 7,
  ...more,
});
const chat = (more) => client.chat.completions.create(request(more));

async function stream(more) {
  const chunks = [];
  for await (const chunk of await chat({ stream: true, ...more })) chunks.push(chunk);
  return chunks;
}
const text = (chunks) => chunks.flatMap((c) => c.choices).map((c) => c.delta.content ?? '').join('');
const reasons = (chunks) => chunks.flatMap((c) => c.choices).map((c) => c.finish_reason).filter(Boolean);
const finished = (reason) => assert.ok(['stop', 'length'].includes(reason), `finish reason ${reason}`);
function addsUp(usage) {
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0, JSON.stringify(usage));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

const checks = {
  async models_are_listed() {
    const ids = [];
    for await (const each of client.models.list()) ids.push(each.id);
    assert.ok(ids.includes(model), `${model} is none of ${ids}`);
  },
  async answer_has_the_shape_of_the_wire() {
    const answer = await chat();
    assert.equal(answer.object, 'chat.completion');
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].message.role, 'assistant');
    assert.ok(answer.choices[0].message.content, 'the answer is empty');
    finished(answer.choices[0].finish_reason);
    addsUp(answer.usage);
  },
  async stream_ends_in_a_finish_reason_and_usage() {
    const chunks = await stream({ stream_options: { include_usage: true } });
    assert.ok(text(chunks), 'the stream is empty');
    assert.equal(reasons(chunks).length, 1);
    finished(reasons(chunks)[0]);
    addsUp(chunks.at(-1).usage);
  },
  async assembled_stream_is_an_answer() {
    const answer = await client.chat.completions.stream(request()).finalChatCompletion();
    assert.ok(answer.choices[0].message.content, 'the answer is empty');
    finished(answer.choices[0].finish_reason);
  },
  async parallel_requests_are_all_answered() {
    const answers = await Promise.all(Array.from({ length: 8 }, () => chat({ max_tokens: 8 })));
    for (const answer of answers) finished(answer.choices[0].finish_reason);
  },
  async hanging_up_mid_stream_leaves_the_server_well() {
    for (let number = 0; number < 4; number += 1) {
      for await (const chunk of await chat({ stream: true, max_tokens: 200 })) {
        assert.equal(chunk.object, 'chat.completion.chunk');
        break; // leaving the loop aborts the request
      }
    }
    finished((await chat()).choices[0].finish_reason);
  },
};

if (deterministic) {
  checks.stream_says_what_the_answer_says = async () => {
    const [answer, chunks] = [await chat(), await stream()];
    assert.equal(text(chunks), answer.choices[0].message.content);
    assert.equal(reasons(chunks)[0], answer.choices[0].finish_reason);
  };
}

if (quorate) {
  checks.headers_and_extra_object_agree = async () => {
    const { data, response } = await chat({ quorate: { explain: true } }).withResponse();
    assert.ok(response.headers.get('x-request-id'), 'x-request-id is missing');
    assert.equal(data.quorate.model, response.headers.get('x-quorate-model'));
    assert.equal(data.quorate.decision, response.headers.get('x-quorate-decision'));
  };
  checks.unknown_model_is_refused_with_a_code = async () => {
    await assert.rejects(chat({ model: 'no-such-model' }), (error) => {
      assert.ok(error instanceof OpenAI.APIError, `${error}`);
      assert.ok([400, 404].includes(error.status), `status ${error.status}`);
      assert.ok(error.message && error.code, JSON.stringify(error.error));
      return true;
    });
  };
}

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.stack ?? error}`);
  }
}
console.log(`openai ${version} (node): ${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
