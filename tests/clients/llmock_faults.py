#!/usr/bin/env python3
"""Faults of an upstream, injected and graded by llmock, seen through the daemon.

    llmock_faults.py --models                     the models the checks use, one a line
    llmock_faults.py BASE_URL LLMOCK_URL          the checks; BASE_URL is the daemon's, with /v1

The daemon must serve those models from one provider named `mock` (kind `openai`, base_url
LLMOCK_URL/v1), and an alias `safe` over mock/safe-first, then mock/safe-second. Start llmock with
`--stream-chunk-delay-ms 40`: without a pause between chunks the whole stream is on its way before
a client can hang up, and llmock cannot tell that it did.

Every check has a model of its own, because breaker, cool-down and a refused key belong to a
deployment: what one check breaks, the next must not inherit.

llmock 0.2.2, as tried (it bypasses faults for these and never journals them):

    POST /_llmock/scenario {"behaviors": [...]}   queue faults; each has `times` (null: for ever)
                                                  and `match` {"model", "stream", "path", ...}
         {"type": "fail", "status": 429, "retry_after": 1}     sends Retry-After and retry-after-ms;
              429 and 503 carry one second of it unasked, other statuses none
         {"type": "delay" | "slow_first_token", "seconds": 2}
         {"type": "stream_fault", "kind": K, "after_chunks": N, "stall_seconds": 30}
              K is disconnect, truncate, stall or malformed; N counts SSE events, and the first
              event only names the role, so N = 1 strikes before any text and N = 4 after some
    GET  /_llmock/requests     the journal: status, fault, body, started_at and ended_at
                               (monotonic seconds), completed, stall_waited; waits up to 2 s for
                               requests in flight and leaves out those that still are
    GET  /_llmock/verdict      {"errors", "warnings", "findings": [{"severity", "code", ...}]};
                               attempts are grouped into calls by equal request bodies
    POST /_llmock/reset        forget journal and queue
    `llmock report` prints the verdict and exits 1 on errors.

The verdict is the assertion, with three exceptions, each by design. llmock calls a truncated
stream accepted unless it is asked again; after the first delta Quorate never asks again, but
tells its own client, which is what we check then. It warns of a client that gives up without a
retry, which is right when Retry-After lies beyond the deadline or text has been delivered. And
full jitter may draw two short or falling pauses, so several retries may earn `no_backoff`.
"""

import argparse
import json
import sys
import threading
import time
import traceback
import urllib.request

import openai

# Longer than any deadline here, so that whoever waits it out is found.
STALL = 30
# How much later than a deadline or a hang-up the end may come on a busy machine.
PATIENCE = 10


def same(left, right, what):
    assert left == right, f"{what}: {left!r} is not {right!r}"


def fail(status, **more):
    return {"type": "fail", "status": status, **more}


def fault(kind, after_chunks, **more):
    return {"type": "stream_fault", "kind": kind, "after_chunks": after_chunks,
            "stall_seconds": STALL, **more}


class Llmock:
    """llmock's control API."""

    def __init__(self, url):
        self._url = url.rstrip("/")

    def _call(self, path, payload=None):
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(f"{self._url}/_llmock/{path}", data=data)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.load(reply)

    def script(self, model, *behaviours):
        self._call("reset", {})
        if behaviours:
            matched = [{**each, "match": {"model": model}} for each in behaviours]
            self._call("scenario", {"behaviors": matched})

    def requests(self):
        return self._call("requests")["requests"]

    def requests_when(self, count):
        """The journal as soon as it holds `count` requests: a cancelled one is late."""
        deadline = time.monotonic() + PATIENCE
        while True:
            requests = self.requests()
            if len(requests) >= count or time.monotonic() > deadline:
                return requests
            time.sleep(0.05)

    def findings(self):
        return self._call("verdict")["findings"]


class Suite:
    """Every method whose name does not start with an underscore is a check, run in order."""

    def __init__(self, base_url, llmock_url):
        self._llmock = Llmock(llmock_url)
        self._client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)
        self._asked = 0

    def _request(self, model, deadline_ms=20_000, **more):
        # Different words each time: llmock takes an equal body for a retry.
        self._asked += 1
        messages = [{"role": "user", "content": f"Question {self._asked} of many."}]
        extra = {"quorate": {"deadline_ms": deadline_ms}, "x_rides_along": 7}
        name = model if model == "safe" else f"mock/{model}"
        return {"model": name, "messages": messages, "extra_body": extra, **more}

    def _chat(self, model, **more):
        answer = self._client.chat.completions.create(**self._request(model, **more))
        assert answer.choices[0].message.content, "the answer is empty"
        return answer

    def _stream(self, model, got, **more):
        """Reads a stream to its end, adding every piece of text to `got`."""
        reasons = []
        request = self._request(model, **more)
        for chunk in self._client.chat.completions.create(**request, stream=True):
            for choice in chunk.choices:
                got.append(choice.delta.content or "")
                reasons.append(choice.finish_reason)
        assert any(reasons), "the stream ended without a finish reason, and nothing was raised"

    def _error(self, kind, call, *args, **more):
        started = time.monotonic()
        try:
            call(*args, **more)
        except kind as error:
            assert str(error), "the error has no message"
            return error, time.monotonic() - started
        raise AssertionError("the fault was hidden from the client")

    def _verdict(self, *allowed):
        unexpected = [f"{each['code']}: {each['title']}" for each in self._llmock.findings()
                      if each["code"] not in allowed]
        same(unexpected, [], "llmock's verdict on the daemon")

    def _attempts(self, *counts):
        requests = self._llmock.requests_when(min(counts))
        assert len(requests) in counts, f"{len(requests)} upstream calls, expected {counts}"
        return requests

    # Without a fault, first: the grader itself must be satisfied.

    def healthy_upstream_is_called_once_with_the_callers_words(self):
        self._llmock.script("healthy")
        self._chat("healthy")
        body = self._attempts(1)[0]["body"]
        same(body["model"], "healthy", "model sent upstream")
        assert "quorate" not in body, "our own object was sent upstream"
        same(body.get("x_rides_along"), 7, "unknown field sent upstream")
        self._stream("healthy", [])
        self._verdict()

    # Errors before an answer.

    def a_500_is_retried(self):
        self._llmock.script("one-500", fail(500))
        self._chat("one-500")
        self._attempts(2)
        self._verdict()

    def two_502_are_retried_twice(self):
        self._llmock.script("two-502", fail(502, times=2))
        self._chat("two-502")
        self._attempts(3)
        self._verdict("no_backoff")

    def a_503_is_retried_after_its_retry_after(self):
        self._llmock.script("one-503", fail(503, retry_after=1))
        self._stream("one-503", [])
        self._attempts(2)
        self._verdict()

    def a_lasting_500_is_given_up_and_reported(self):
        self._llmock.script("lasting-500", fail(500, times=None))
        error, _ = self._error(openai.InternalServerError, self._chat, "lasting-500")
        assert error.status_code >= 500, f"status {error.status_code}"
        self._attempts(2, 4)
        self._verdict("no_backoff")

    def a_lasting_503_falls_back_to_the_next_candidate(self):
        self._llmock.script("safe-first", fail(503, times=None))
        raw = self._client.chat.completions.with_raw_response.create(**self._request("safe"))
        same(raw.headers.get("x-quorate-model"), "mock/safe-second", "x-quorate-model")
        assert raw.parse().choices[0].message.content, "the answer is empty"
        self._verdict("no_backoff", "gave_up")

    def a_lasting_outage_stops_being_asked(self):
        self._llmock.script("outage", fail(502, times=None))
        for _ in range(12):
            self._error(openai.APIStatusError, self._chat, "outage")
        before = len(self._llmock.requests())
        assert before >= 10, f"only {before} upstream calls: the breaker opened too early"
        # Nobody else is there to ask: one call a second is let through, to see whether it is well again.
        began = time.monotonic()
        for _ in range(5):
            self._error(openai.APIStatusError, self._chat, "outage")
        took = time.monotonic() - began
        more = len(self._llmock.requests()) - before
        assert more <= took + 2, f"{more} upstream calls in {took:.1f} s with an open breaker"
        self._verdict("no_backoff", "gave_up")

    # Errors that no retry can mend.

    def a_400_is_the_callers_and_not_retried(self):
        self._llmock.script("refused-400", fail(400, times=None))
        self._error(openai.BadRequestError, self._chat, "refused-400")
        self._attempts(1)
        self._verdict()

    def a_404_is_not_retried(self):
        self._llmock.script("refused-404", fail(404, times=None))
        self._error(openai.APIStatusError, self._chat, "refused-404")
        self._attempts(1)
        self._verdict()

    def a_422_is_not_retried(self):
        self._llmock.script("refused-422", fail(422, times=None))
        self._error(openai.APIStatusError, self._chat, "refused-422")
        self._attempts(1)
        self._verdict()

    def a_401_disables_the_deployment(self):
        self._llmock.script("refused-401", fail(401, times=None))
        for _ in range(2):
            self._error(openai.APIStatusError, self._chat, "refused-401")
        self._attempts(1)
        self._verdict()

    # Rate limits.

    def retry_after_is_honoured(self):
        self._llmock.script("limit-once", fail(429, retry_after=1))
        self._chat("limit-once")
        first, second = self._attempts(2)
        waited = second["started_at"] - first["ended_at"]
        assert waited >= 1, f"asked again after {waited:.3f} s, Retry-After was 1 s"
        self._verdict()

    def nobody_calls_inside_retry_after(self):
        self._llmock.script("limit-all", fail(429, retry_after=2))
        callers = [threading.Thread(target=self._chat_or_refusal, args=("limit-all",))
                   for _ in range(5)]
        callers[0].start()
        self._attempts(1, 2)
        for caller in callers[1:]:
            caller.start()
        for caller in callers:
            caller.join()
        first, *later = self._llmock.requests()
        same(first["status"], 429, "status of the first upstream call")
        early = [each["started_at"] - first["ended_at"] for each in later
                 if each["started_at"] < first["ended_at"] + 2]
        same(early, [], "seconds after the 429 at which somebody called")
        self._verdict()

    def _chat_or_refusal(self, model):
        try:
            self._chat(model)
        except openai.APIStatusError:
            pass  # refusing during the cool-down is as good as waiting for its end

    def retry_after_beyond_the_deadline_fails_at_once(self):
        self._llmock.script("limit-long", fail(429, retry_after=STALL, times=None))
        error, took = self._error(openai.RateLimitError, self._chat, "limit-long",
                                  deadline_ms=2000)
        assert took < PATIENCE, f"failed after {took:.1f} s with a deadline of 2 s"
        assert error.response.headers.get("retry-after"), "our 429 has no Retry-After"
        self._attempts(1)
        self._verdict("gave_up")

    # Streams that break before any text: the caller must not notice.

    def _early(self, kind):
        model = f"early-{kind}"
        self._llmock.script(model, fault(kind, 1))
        got = []
        self._stream(model, got)
        assert "".join(got), "the stream is empty"
        self._attempts(2)
        self._verdict()

    def an_early_disconnect_is_retried(self):
        self._early("disconnect")

    def an_early_truncation_is_retried(self):
        self._early("truncate")

    def an_early_malformed_chunk_is_retried(self):
        self._early("malformed")

    # Streams that break after some text: the caller must notice, and no text may come twice.

    def _late(self, kind, *allowed):
        model = f"late-{kind}"
        self._llmock.script(model, fault(kind, 4))
        got = []
        self._error(openai.APIError, self._stream, model, got)
        assert "".join(got), "the text before the fault was withheld"
        self._attempts(1)
        self._verdict(*allowed)

    def a_late_disconnect_is_an_error_and_never_retried(self):
        self._late("disconnect", "gave_up")

    def a_late_truncation_is_an_error_and_never_retried(self):
        self._late("truncate", "truncated_stream_accepted")

    def a_late_malformed_chunk_is_an_error_and_never_retried(self):
        self._late("malformed", "malformed_chunk_ignored")

    # Streams that hang.

    def _hangs_up(self, requests):
        assert requests, "llmock still serves a stream that nobody reads"
        for each in requests:
            assert not each["completed"], "the whole stall was waited out"
            assert each["stall_waited"] < PATIENCE, f"hung up after {each['stall_waited']:.1f} s"

    def _stalls(self, model, after_chunks):
        self._llmock.script(model, fault("stall", after_chunks, times=None))
        got = []
        _, took = self._error(openai.APIError, self._stream, model, got, deadline_ms=3000)
        assert took < PATIENCE, f"failed after {took:.1f} s with a deadline of 3 s"
        self._hangs_up(self._llmock.requests_when(1))
        self._verdict()
        return "".join(got)

    def an_early_stall_ends_at_the_deadline(self):
        same(self._stalls("early-stall", 1), "", "text before the fault")

    def a_late_stall_ends_at_the_deadline(self):
        assert self._stalls("late-stall", 4), "the text before the fault was withheld"

    def hanging_up_cancels_the_upstream_call(self):
        self._llmock.script("hang-up", fault("stall", 4))
        request = self._request("hang-up", deadline_ms=60_000)
        stream = self._client.chat.completions.create(**request, stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        time.sleep(0.5)  # the rest of the text passes, and the stall begins
        stream.close()
        self._hangs_up(self._llmock.requests_when(1))


# The deployments of the checks, each named once more where it is used.
MODELS = ["healthy", "one-500", "two-502", "one-503", "lasting-500", "safe-first", "safe-second",
          "outage", "refused-400", "refused-404", "refused-422", "refused-401", "limit-once",
          "limit-all", "limit-long", "early-disconnect", "early-truncate", "early-malformed",
          "late-disconnect", "late-truncate", "late-malformed", "early-stall", "late-stall",
          "hang-up"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", action="store_true")
    parser.add_argument("urls", nargs="*", metavar="URL")
    args = parser.parse_args()
    if args.models:
        print("\n".join(MODELS))
        return 0
    if len(args.urls) != 2:
        parser.error("two URLs are needed: the daemon's and llmock's")
    suite = Suite(*args.urls)
    checks = [name for name in vars(Suite) if not name.startswith("_")]
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
    print(f"llmock: {len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
