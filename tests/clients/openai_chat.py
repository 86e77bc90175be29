#!/usr/bin/env python3
"""The official `openai` Python SDK against a chat-completions server.

    openai_chat.py BASE_URL MODEL [--deterministic] [--real-model] [--quorate]

One line a check, `ok name` or `FAILED name: why`, then `N passed, N failed`; the exit code is 1
when anything failed. Nothing here asserts what a model says or how fast it says it: only shapes,
finish reasons, token counts, and that two ways to the same answer agree.

    --deterministic   the same request gives the same text (a script, or temperature 0 and a seed)
    --real-model      the server counts tokens and obeys their limit
    --quorate         the server is Quorate: its headers, its `quorate` object, its errors

The script runs with the 2.x and 3.x majors of the SDK, and with --real-model alone against
llama.cpp itself: a check that fails there is a mistake in the check.
"""

import argparse
import asyncio
import sys
import time
import traceback
import urllib.request

import openai

QUESTION = "Name three colours, and say in one sentence each where one meets them."
MAX_TOKENS = 24
FINISHED = {"stop", "length"}


def same(left, right, what):
    assert left == right, f"{what}: {left!r} is not {right!r}"


def among(value, allowed, what):
    assert value in allowed, f"{what}: {value!r} is none of {sorted(allowed)}"


def needs(flag):
    """Marks a check that runs only under a flag of the command line."""
    def mark(check):
        check.needs = flag
        return check
    return mark


class Suite:
    """Every method whose name does not start with an underscore is a check, run in order."""

    def __init__(self, args):
        self._args = args
        self._model = args.model
        # No retry inside the SDK: it would hide a server that fails every second time. Of a server
        # that is not ours only the answers are looked at.
        self._options = {"base_url": args.base_url, "api_key": "unused",
                         "max_retries": 0 if args.quorate else 2, "timeout": 120}
        self._client = openai.OpenAI(**self._options)

    def _request(self, content=QUESTION, **more):
        request = {"model": self._model, "messages": [{"role": "user", "content": content}],
                   "max_tokens": MAX_TOKENS, "temperature": 0, "seed": 7}
        return request | more

    def _chat(self, content=QUESTION, **more):
        return self._client.chat.completions.create(**self._request(content, **more))

    def _stream(self, content=QUESTION, **more):
        return list(self._chat(content, stream=True, **more))

    # What every OpenAI-compatible server must do.

    def models_are_listed(self):
        models = list(self._client.models.list())
        among(self._model, {model.id for model in models}, "model")
        for model in models:
            same(model.object, "model", f"object of {model.id}")

    def answer_has_the_shape_of_the_wire(self):
        answer = self._chat()
        same(answer.object, "chat.completion", "object")
        assert answer.id, "the answer has no id"
        assert answer.created > 0, "the answer has no creation time"
        assert answer.model, "the answer names no model"
        same([choice.index for choice in answer.choices], [0], "choice indexes")
        choice = answer.choices[0]
        same(choice.message.role, "assistant", "role")
        assert choice.message.content, "the answer is empty"
        among(choice.finish_reason, FINISHED, "finish reason")

    def usage_adds_up(self):
        usage = self._chat().usage
        assert usage.prompt_tokens > 0, "no prompt tokens"
        assert usage.completion_tokens > 0, "no completion tokens"
        same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total")

    def stream_has_the_shape_of_the_wire(self):
        chunks = self._stream()
        same({chunk.object for chunk in chunks}, {"chat.completion.chunk"}, "objects")
        same(len({chunk.id for chunk in chunks}), 1, "number of ids in one stream")
        choices = [choice for chunk in chunks for choice in chunk.choices]
        same({choice.index for choice in choices}, {0}, "choice indexes")
        same(choices[0].delta.role, "assistant", "role of the first delta")
        reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
        same(len(reasons), 1, "number of finish reasons")
        among(reasons[0], FINISHED, "finish reason")
        assert any(choice.delta.content for choice in choices), "the stream is empty"

    def stream_without_include_usage_carries_none(self):
        chunks = self._stream()
        same([chunk.usage for chunk in chunks if chunk.usage], [], "usage")
        assert all(chunk.choices for chunk in chunks), "a chunk without a choice"

    def stream_with_include_usage_ends_in_it(self):
        chunks = self._stream(stream_options={"include_usage": True})
        same([bool(chunk.usage) for chunk in chunks].count(True), 1, "number of usage chunks")
        usage, last = chunks[-1].usage, chunks[-1]
        assert usage, "the last chunk has no usage"
        same(last.choices, [], "choices of the usage chunk")
        assert usage.completion_tokens > 0, "no completion tokens"
        same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total")

    @needs("deterministic")
    def stream_says_what_the_answer_says(self):
        answer = self._chat()
        chunks = self._stream(stream_options={"include_usage": True})
        choices = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        same(text, answer.choices[0].message.content, "streamed text")
        reason = next(choice.finish_reason for choice in choices if choice.finish_reason)
        same(reason, answer.choices[0].finish_reason, "finish reason")
        same(chunks[-1].usage.completion_tokens, answer.usage.completion_tokens, "tokens")

    @needs("real_model")
    def token_limit_is_obeyed(self):
        for limit in ({"max_tokens": 4}, {"max_tokens": openai.NOT_GIVEN,
                                          "max_completion_tokens": 4}):
            answer = self._chat(**limit)
            same(answer.choices[0].finish_reason, "length", f"finish reason with {limit}")
            assert answer.usage.completion_tokens <= 4, f"{answer.usage} exceeds {limit}"

    def conversation_of_several_roles_is_accepted(self):
        messages = [{"role": "system", "content": "You are terse."},
                    {"role": "user", "content": "Hello."},
                    {"role": "assistant", "content": "Hello. What is it?"},
                    {"role": "user", "content": [{"type": "text", "text": "Name a colour."}]}]
        answer = self._chat(messages=messages)
        among(answer.choices[0].finish_reason, FINISHED, "finish reason")

    def unknown_field_is_no_error(self):
        answer = self._chat(extra_body={"x_not_a_field": {"deep": [1, 2]}})
        among(answer.choices[0].finish_reason, FINISHED, "finish reason")

    def non_ascii_text_survives(self):
        chunks = self._stream("Répète : « 汉字 🦀 naïve » \u2028 \\n \" \t")
        assert chunks, "the stream is empty"

    def eight_parallel_requests_are_all_answered(self):
        async def one(client, number):
            request = self._request(f"Say the number {number}.", max_tokens=8)
            if number % 2 == 0:
                return (await client.chat.completions.create(**request)).choices[0].finish_reason
            reasons = []
            async for chunk in await client.chat.completions.create(**request, stream=True):
                reasons += [choice.finish_reason for choice in chunk.choices]
            return reasons[-1]

        async def every():
            async with openai.AsyncOpenAI(**self._options) as client:
                return await asyncio.gather(*(one(client, number) for number in range(8)))

        for reason in asyncio.run(every()):
            among(reason, FINISHED, "finish reason")

    def hanging_up_mid_stream_leaves_the_server_well(self):
        for number in range(4):
            stream = self._chat(f"{QUESTION} ({number})", stream=True, max_tokens=200)
            next(iter(stream))
            stream.close()
        among(self._chat().choices[0].finish_reason, FINISHED, "finish reason")
        if self._args.quorate:
            self._wait_until_no_permit_is_in_use()

    # What Quorate promises beyond the wire.

    def _wait_until_no_permit_is_in_use(self):
        url = self._args.base_url.removesuffix("/").removesuffix("/v1") + "/metrics"
        deadline = time.monotonic() + 10
        while True:
            with urllib.request.urlopen(url, timeout=10) as reply:
                lines = reply.read().decode().splitlines()
            samples = [line for line in lines if line.startswith("quorate_permits_in_use")]
            assert samples, f"{url} has no quorate_permits_in_use"
            if sum(float(line.split()[-1]) for line in samples) == 0:
                return
            assert time.monotonic() < deadline, f"permits leaked: {samples}"
            time.sleep(0.05)

    def _quorate_headers(self, headers):
        for name in ("x-request-id", "x-quorate-model", "x-quorate-decision"):
            assert headers.get(name), f"header {name} is missing"
        return headers["x-quorate-model"]

    @needs("quorate")
    def headers_name_request_model_and_decision(self):
        raw = self._client.chat.completions.with_raw_response
        first = raw.create(**self._request())
        second = raw.create(**self._request(), stream=True)
        assert "/" in self._quorate_headers(first.headers), "x-quorate-model names no deployment"
        self._quorate_headers(second.headers)
        assert list(second.parse()), "the stream is empty"
        ids = {reply.headers["x-request-id"] for reply in (first, second)}
        same(len(ids), 2, "number of request ids in two requests")

    @needs("quorate")
    def extra_object_explains_the_answer(self):
        asked = {"extra_body": {"quorate": {"explain": True}}}
        reply = self._client.chat.completions.with_raw_response.create(**self._request(), **asked)
        answer = reply.parse()
        extra = (answer.model_extra or {}).get("quorate")
        assert isinstance(extra, dict), f"quorate: {extra!r} is no object"
        same(extra.get("model"), reply.headers["x-quorate-model"], "model in object and header")
        same(extra.get("decision"), reply.headers["x-quorate-decision"], "decision")
        assert isinstance(extra.get("attempts"), list), "attempts is no list"

        chunks = self._stream(**asked)
        carriers = [chunk for chunk in chunks if "quorate" in (chunk.model_extra or {})]
        same(carriers, chunks[-1:], "chunks with a quorate object")
        assert carriers[0].model_extra["quorate"].get("decision"), "the stream names no decision"

    def _refusal(self, kinds, **request):
        try:
            self._client.chat.completions.create(**self._request(**request))
        except kinds as error:
            body = error.body if isinstance(error.body, dict) else {}
            assert body.get("message"), f"the error has no message: {error.body!r}"
            assert body.get("type"), f"the error has no type: {error.body!r}"
            assert error.response.headers.get("x-request-id"), "the error has no x-request-id"
            return error
        raise AssertionError("the request was accepted")

    @needs("quorate")
    def unknown_model_is_refused_with_a_code(self):
        kinds = (openai.NotFoundError, openai.BadRequestError)
        for stream in (False, True):
            error = self._refusal(kinds, model="no-such-model", stream=stream)
            assert error.code, f"the error has no code: {error.body!r}"
            assert "no-such-model" in str(error), f"the error does not name the model: {error}"

    @needs("quorate")
    def bad_values_are_refused(self):
        for bad in ({"messages": []}, {"temperature": "warm"}, {"messages": "hello"},
                    {"extra_body": {"quorate": {"lane": "express"}}}):
            self._refusal((openai.BadRequestError, openai.UnprocessableEntityError), **bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base_url")
    parser.add_argument("model")
    for flag in ("--deterministic", "--real-model", "--quorate"):
        parser.add_argument(flag, action="store_true")
    args = parser.parse_args()
    suite = Suite(args)
    checks = [name for name, check in vars(Suite).items() if not name.startswith("_")
              and getattr(args, getattr(check, "needs", ""), True)]
    failed = 0
    for name in checks:
        try:
            getattr(suite, name)()
            print(f"ok {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, (AssertionError, openai.OpenAIError)):
                traceback.print_exc(file=sys.stdout)
    print(f"openai {openai.__version__}: {len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
