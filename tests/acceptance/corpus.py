"""Every recording of the corpus through a running gateway, over plain HTTP.

For each one the recorded answer is played by a provider of its own, a fitting request is sent to the gateway, and two
directions are compared: what the client gets with an independent reading of the recording, and what the provider gets
with the recorded request; and what the ledger says of it costs what its usage costs by the prices of the catalogue, worked
out anew in `recorded.priced`. Streams are played again in further ways of cutting their bytes, and broken off in the middle.
Prints two tables, provider by aspect and provider by kind of cost; exits with 1 if anything differs, if a recording is neither judged nor exempted, or
if an exemption is needed no more. See the package `recorded`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, Queue

from gateway import Answer, Gateway, Workspace
from recorded import cutting, exempt, failures, handed_back, judge, recording
from recorded.outcome import Outcome
from recorded.priced import Books
from recorded.recording import Recording
from recorded.result import Result
from recorded.table import report
from recorded.wires import Placement, Wire, openai, wire_of
from replay import Replay
from staging import credential

WORKERS = 6
# In how many further ways each stream is cut: all there are.
MORE_WAYS = len(cutting.WAYS) - 1


@dataclass
class Bench:
    """One worker's replay, and a tenant for each credential that it needs."""

    gateway: Gateway
    replay: Replay
    number: int
    books: Books
    workspaces: dict[Placement, Workspace] = field(default_factory=dict)
    made: int = 0

    def workspace(self, placement: Placement) -> Workspace:
        """The tenant of a credential, made when it is first needed."""
        if placement not in self.workspaces:
            self.made += 1
            name = f"corpus {self.number} {self.made}"
            self.workspaces[placement] = self.gateway.workspace(name, [credential(placement, self.replay.root)])
        return self.workspaces[placement]

    def ask(self, wire: Wire, result: Result, **item: object) -> Answer:
        """Plays the recording and asks for it. A failure must not weigh on the tenant's next request."""
        placement = wire.placement(result.recording)
        self.replay.play({"id": result.recording.id, **item})
        answer = self.workspace(placement).post(wire.operation, result.sent.body)
        if answer.status != 200 or wire.read(result.recording).error or "cut" in item:
            del self.workspaces[placement]
        return answer


def exchange(bench: Bench, recording: Recording, refusal: str | None) -> Result:
    """Plays one recording and compares both directions."""
    wire = wire_of(recording)
    result = Result(recording, sent=wire.request_of(recording))
    workspace = bench.workspace(wire.placement(recording))
    answer = bench.ask(wire, result)
    seen = list(bench.replay.seen)
    if refusal is not None:
        result.compare("error", "status", answer.status, 400)
        result.compare("error", "param", answer.json()["error"]["param"], refusal)
        result.compare("request", "requests to the provider", len(seen), 0)
        return result
    result.compare("request", "requests to the provider", len(seen), 1)
    for received in seen[:1]:
        judge.received(result, wire, received, workspace.key)
    judge.answer_of(result, wire, answer)
    if answer.status == 200:
        judge.booked(result, wire, bench.gateway.newest_log(workspace), answer)
        bench.books.judge(result, wire, bench.gateway.newest_record(workspace))
        again(bench, wire, result, answer)
    return result


def again(bench: Bench, wire: Wire, result: Result, answer: Answer) -> None:
    """What a success is good for beyond its first playing."""
    played = result.recording
    streams = played.stream and bool(result.sent.body.get("stream"))
    for more in range(1, MORE_WAYS + 1) if streams else ():
        judge.answer_of(result, wire, bench.ask(wire, result, way=bench.replay.seed + more))
    failures.broken_off(result, bench.ask(wire, result, cut=failures.place_to_break(played)), streams)
    if wire.operation == "/chat/completions":
        workspace = bench.workspace(wire.placement(played))
        handed_back.check(result, wire, bench.replay, workspace, openai.read(200, answer.text, streams))


def work(bench: Bench, todo: Queue[tuple[Recording, str | None]], done: list[Result]) -> None:
    while True:
        try:
            played, refusal = todo.get_nowait()
        except Empty:
            return
        try:
            done.append(exchange(bench, played, refusal))
        except Exception as cause:  # One recording's failure must not hide the others'.
            broken = Result(played)
            broken.fail("shape", f"{type(cause).__name__}: {cause}")
            done.append(broken)


def run(gateway: Gateway, todo: Queue[tuple[Recording, str | None]], books: Books, seed: int, workers: int) -> list[Result]:
    """All recordings, each worker with tenants and a replay of its own."""
    done: list[Result] = []
    with ExitStack() as resources:
        replays = [resources.enter_context(Replay(seed)) for _ in range(workers)]
        benches = [Bench(gateway, replay, number, books) for number, replay in enumerate(replays)]
        threads = [threading.Thread(target=work, args=(bench, todo, done)) for bench in benches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(done, key=lambda result: result.recording.id)


def sort(recordings: list[Recording], exemptions: exempt.Exemptions) -> tuple[Queue, Outcome]:
    """What is asked, with the parameter that the gateway must refuse it for, if any; and what is not."""
    todo: Queue[tuple[Recording, str | None]] = Queue()
    outcome = Outcome(exemptions)
    for played in recordings:
        whole = next((entry for entry in exemptions.entries if not entry.aspects and entry.fits(played)), None)
        if wire_of(played) is not None:
            todo.put((played, whole.refused if whole else None))
            if whole:
                (whole.needed if whole.refused else whole.idle).append(played.id)
        elif whole:
            outcome.exempted[played.id] = whole
        else:
            outcome.unspoken.append(played)
    return todo, outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="in which way streams are cut first, and where (default 0)")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("names", nargs="*", help="only recordings whose ids begin so")
    options = parser.parse_args()
    if not recording.CORPUS.is_dir():
        print(recording.NO_CORPUS)
        return 0
    recordings = [one for one in recording.everything() if one.id.startswith(tuple(options.names or [""]))]
    todo, outcome = sort(recordings, exempt.load())
    with Gateway() as gateway:
        started = time.monotonic()
        books = Books()
        outcome.results = run(gateway, todo, books, options.seed, options.workers)
        outcome.apply(whole_corpus=not options.names)
        fine = report(outcome, time.monotonic() - started)
        books.report(outcome.results)
        return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
