"""`modelspend eval` as a shell sees it: real processes, a real sidecar, a provider that answers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest

from modelspend.money import from_usd
from modelspend.quality import Posterior

PROGRAM = (sys.executable, "-m", "modelspend")
PRICE = {"input": 1, "output": 2}  # USD per million tokens


@dataclass
class Provider:
    """Knows some answers: by the question's text, and of each model its own."""

    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    knows: Callable[[str, str], str | int] = lambda model, question: question
    hold_after: int | None = None
    let_go: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        question = body["messages"][-1]["content"]
        with self.lock:
            self.asked.append((body["model"], question))
            self.bodies.append(body)
            holds = self.hold_after is not None and len(self.asked) > self.hold_after
        if holds:
            self.let_go.wait(30)
        said = self.knows(body["model"], question)
        if isinstance(said, int):
            return said, {"error": {"message": "no", "type": "server_error", "code": None}}
        return 200, {
            "id": "c", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": said}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }  # fmt: skip


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, said = made.answer(body)
            raw = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    made.let_go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Desk:
    """One user's place, with a provider `p` that has a price and one `q` that has none."""

    folder: Path
    config: Path

    @property
    def env(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("MODELSPEND")}
        return {**plain, "HOME": str(self.folder)}

    def words(self, *words: str) -> list[str]:
        return [*PROGRAM, "eval", *words, "--config", str(self.config)]

    def eval(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            self.words(*words), env=self.env, input=stdin, text=True, capture_output=True,
            cwd=self.folder, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ask(self, *words: str, stdin: str = "", code: int = 0) -> Any:
        told = self.eval(*words, "--json", stdin=stdin)
        assert told[0] == code, told
        return json.loads(told[1], parse_float=Decimal)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            self.words(*words), env=self.env, text=True, cwd=self.folder, **pipes
        )

    def receipts(self) -> list[dict[str, Any]]:
        words = ("receipts", "list", "--limit", "1000", "--json", "--config", str(self.config))
        told = subprocess.run([*PROGRAM, *words], env=self.env, capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(told.stdout, parse_float=Decimal)
        return found

    @contextmanager
    def serving(self) -> Iterator[None]:
        words = [*PROGRAM, "serve", "--config", str(self.config)]
        with subprocess.Popen(words, env=self.env, text=True, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline()
            try:
                yield
            finally:
                running.send_signal(signal.SIGTERM)

    def suite(self, n: int, toml: str = "max_tokens = 100", **more: Any) -> str:
        """A suite of n questions whose right answers are the questions, odd ones on code."""
        folder = self.folder / "questions"
        folder.mkdir(exist_ok=True)
        items = [
            {"id": f"i{k}", "prompt": f"q{k}", "category": "code" if k % 2 else "reasoning",
             "grader": {"kind": "exact", "answer": f"q{k}"}, **more}
            for k in range(n)
        ]  # fmt: skip
        (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        (folder / "suite.toml").write_text(toml)
        return str(folder)


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Desk:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\nport = 0\n[store]\npath = "{tmp_path}/ledger.db"\n'
        f'[providers.p]\nbase_url = "{provider.url}/v1"\ndialects = ["openai.chat"]\n'
        f"price = {{ input = {PRICE['input']}, output = {PRICE['output']} }}\n"
        f'[providers.q]\nbase_url = "{provider.url}/v1"\ndialects = ["openai.chat"]\n'
        "[circuits]\nenabled = false\n"  # five failures in a row would open one, or not, by chance
    )
    return Desk(tmp_path, config)


CALL_USD = Decimal("0.0002")  # 100 in and 50 out
LINES = (
    '{"model": "old", "task": "gsm8k", "score": 0.9, "n": 200}\n'
    '{"model": "new", "task": "gsm8k", "score": 0.5, "n": 10}\n'
)


# Import and scores.


def test_import_adds_a_file_once_and_tells_of_promotions(desk: Desk) -> None:
    assert desk.eval("scores")[1] == "category\tmodel\tn\tmean\tlower bound\tsources\n"
    told = desk.ask("import", "-", stdin=LINES)
    assert told == {"added": 2, "known": 0, "promotions": [], "errors": []}
    assert desk.ask("import", "-", stdin=LINES)["known"] == 2
    better = LINES + '{"model": "new", "task": "gsm8k", "score": 0.99, "n": 900}\n'
    code, out, _ = desk.eval("import", "-", stdin=better)
    assert (code, out.splitlines()[0]) == (0, "1 added, 2 known already.")
    assert out.splitlines()[1].startswith("new promoted on reasoning after eval +")
    first, second = desk.ask("scores", "--category", "reasoning")
    assert (first["model"], second["model"]) == ("new", "old")
    posterior = Posterior().plus(0.9 * 200, 200)
    assert float(second["mean"]) == round(posterior.mean, 4)
    assert float(second["lower_bound"]) == round(posterior.lower_bound(), 4)
    assert second["sources"] == [{"source": "import", "suite": None, "task": "gsm8k", "n": 200}]
    assert [each["model"] for each in desk.ask("scores", "--model", "old")] == ["old"]


def test_a_bad_line_is_told_with_its_number_and_stops_no_other(desk: Desk) -> None:
    file = desk.folder / "scores.csv"
    file.write_text(
        "model,task,score,n\na,mmlu,0.8,10\nb,mmlu,80,10\n\nc,zork,0.5,10\nd,code,1,3\n"
    )
    code, out, err = desk.eval("import", str(file))
    assert (code, out) == (1, "2 added, 0 known already.\n")
    assert err.splitlines() == [
        f"{file}:3: `score` 80 is not between 0 and 1: if it is a percentage, write 0.8.",
        f"{file}:5: task 'zork' belongs to no known category: add `category`, or --category.",
    ]
    told = desk.ask("import", str(file), "--category", "other", code=1)
    assert [each["line"] for each in told["errors"]] == [3]
    lines = '\n{"model": "a"}\nnope\n[1]\n'
    told = desk.ask("import", "-", stdin=lines, code=1)
    assert [each["line"] for each in told["errors"]] == [2, 3, 4]
    assert desk.eval("import", str(desk.folder / "none.csv"))[0] == 1
    assert desk.eval("import", "-", "--category", "maths")[0] == 2
    assert desk.eval("scores", "--category", "maths")[0] == 2


def test_import_works_the_same_beside_a_sidecar(desk: Desk) -> None:
    desk.ask("import", "-", stdin=LINES)
    with desk.serving():
        assert desk.ask("import", "-", stdin=LINES)["known"] == 2
        better = '{"model": "new", "category": "reasoning", "score": 0.99, "n": 900}\n' * 2
        told = desk.ask("import", "-", stdin=better)
        assert (told["added"], len(told["promotions"])) == (2, 1)
        assert {each["model"] for each in desk.ask("scores")} == {"old", "new"}


# Run.


@pytest.mark.parametrize("beside", [True, False])
def test_a_run_grades_every_item_and_its_calls_are_receipts(
    desk: Desk, provider: Provider, beside: bool
) -> None:
    provider.knows = lambda model, question: question if model == "good" else "q0"
    words = ("run", "--suite", desk.suite(6), "--models", "p/good,p/bad")
    if beside:
        with desk.serving():
            told = desk.ask(*words)
    else:
        told = desk.ask(*words)
    assert (told["suite"], told["ended"], told["asked"], told["kept"]) == (
        "questions",
        "done",
        12,
        0,
    )
    rows = {(row["model"], row["category"]): row for row in told["scores"]}
    assert [float(rows[key]["mean"]) for key in sorted(rows)] == [0, round(1 / 3, 4), 1, 1]
    good = rows["p/good", "code"]
    assert (good["n"], good["failed"], good["cost_usd"]) == (3, 0, 3 * CALL_USD)
    assert float(good["lower_bound"]) == round(Posterior().plus(3, 3).lower_bound(), 4)
    assert good["latency_p50_ms"] > 0
    assert told["spent_usd"] == 12 * CALL_USD
    receipts = desk.receipts()
    assert sum(each["execution"]["actual_cost_usd"] for each in receipts) == told["spent_usd"]
    assert {each["workflow"] for each in receipts} == {"eval"}
    tags = [each["tags"] for each in receipts]
    assert {each["item"] for each in tags} == {f"i{k}" for k in range(6)}
    assert {(each["suite"], each["run"]) for each in tags} == {("questions", told["run_id"])}
    assert {body["max_tokens"] for body in provider.bodies} == {100}
    scores = desk.ask("scores", "--model", "p/good")
    assert [(each["category"], each["n"]) for each in scores] == [("code", 3), ("reasoning", 3)]


def test_a_run_again_is_no_new_evidence_but_a_newer_one(desk: Desk, provider: Provider) -> None:
    words = ("run", "--suite", desk.suite(4), "--models", "p/m")
    desk.ask(*words)
    provider.knows = lambda model, question: "wrong"
    code, _, err = desk.eval(*words)
    assert code == 0
    assert "4 of these were answered before" in err
    for each in desk.ask("scores"):
        assert (each["n"], float(each["mean"])) == (2, round(Posterior().plus(0, 2).mean, 4))


def test_a_run_that_overtakes_promotes_once(desk: Desk, provider: Provider) -> None:
    lines = '{"model": "p/old", "category": "code", "score": 0.6, "n": 5}\n'
    desk.ask("import", "-", stdin=lines)
    words = ("run", "--suite", desk.suite(24), "--models", "p/new")
    told = desk.ask(*words)
    (promotion,) = told["promotions"]
    assert (promotion["model"], promotion["over"]) == ("p/new", "p/old")
    assert desk.ask(*words)["promotions"] == []


def test_no_answer_is_not_a_wrong_answer_and_is_asked_again(desk: Desk, provider: Provider) -> None:
    provider.knows = lambda model, question: 503 if question in ("q1", "q2") else question
    words = ("run", "--suite", desk.suite(4), "--models", "p/m")
    told = desk.ask(*words, code=1)
    assert told["without_score"] == 2
    for row in told["scores"]:
        assert (row["n"], float(row["mean"]), row["failed"]) == (1, 1, 1)
    assert {(each["item"], each["outcome"]) for each in told["lost"]} == {
        ("i1", "failed"), ("i2", "failed"),
    }  # fmt: skip
    assert all(each["why"] and each["receipt_id"] for each in told["lost"])
    provider.knows = lambda model, question: question
    provider.asked.clear()
    told = desk.ask(*words, "--resume")
    assert (told["asked"], told["kept"], told["without_score"]) == (2, 2, 0)
    assert sorted(question for _, question in provider.asked) == ["q1", "q2"]


def test_after_kill_9_nothing_that_was_answered_is_asked_again(
    desk: Desk, provider: Provider
) -> None:
    provider.hold_after = 5
    words = ("run", "--suite", desk.suite(12), "--models", "p/m", "--jobs", "2")
    running = desk.start(*words)
    while len(provider.asked) < 7:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.kill()
    running.communicate()
    before = [question for _, question in provider.asked]
    provider.let_go.set()
    provider.hold_after = None
    told = desk.ask(*words, "--resume")
    after = [question for _, question in provider.asked[len(before) :]]
    assert (told["kept"], told["asked"], told["without_score"]) == (5, 7, 0)
    assert set(before[:5]).isdisjoint(after)
    assert sorted(before[:5] + after) == sorted(f"q{k}" for k in range(12))
    assert sum(each["n"] for each in desk.ask("scores")) == 12


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(
    desk: Desk, provider: Provider
) -> None:
    provider.hold_after = 3
    words = ("run", "--suite", desk.suite(12), "--models", "p/m", "--jobs", "1")
    running = desk.start(*words)
    while len(provider.asked) < 4:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    provider.let_go.set()
    out, err = running.communicate()
    assert running.returncode == 130, (out, err)
    assert "--resume" in err
    assert sum(each["n"] for each in desk.ask("scores")) == 4


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_a_cap_is_never_passed_and_the_run_goes_on_from_there(
    desk: Desk, provider: Provider, jobs: str
) -> None:
    words = ("run", "--suite", desk.suite(20), "--models", "p/m", "--jobs", jobs)
    code, out, err = desk.eval(*words, "--max-usd", "0.001", "--json")
    assert code == 7, err
    told = json.loads(out, parse_float=Decimal)
    assert told["ended"] == "budget"
    assert 0 < told["spent_usd"] <= Decimal("0.001")
    assert told["asked"] + told["not_asked"] == 20
    assert json.loads(err.splitlines()[-1])["error"]["code"] == "budget_exceeded"
    assert len(provider.asked) == told["asked"]
    assert sum(each["n"] for each in desk.ask("scores")) == told["asked"]
    rest = desk.ask(*words, "--max-usd", "1", "--resume")
    assert (rest["kept"], rest["asked"]) == (told["asked"], told["not_asked"])
    assert rest["spent_usd"] == CALL_USD * rest["asked"]


def test_a_cap_on_what_has_no_price_is_refused_before_any_call(
    desk: Desk, provider: Provider
) -> None:
    suite = desk.suite(2)
    code, _, err = desk.eval("run", "--suite", suite, "--models", "p/m,q/m", "--max-usd", "1")
    assert (code, provider.asked) == (2, [])
    assert "q/m has no known price" in err
    assert desk.eval("run", "--suite", suite, "--models", "p/m", "--max-usd", "x")[0] == 2
    told = desk.ask("run", "--suite", suite, "--models", "q/m")
    assert [row["unpriced"] for row in told["scores"]] == [1, 1]


JUDGED = {"grader": {"kind": "judge", "rubric": "It answers."}}


def test_a_judge_is_asked_paid_for_and_believed_only_when_it_gives_a_score(
    desk: Desk, provider: Provider
) -> None:
    def knows(model: str, question: str) -> str:
        if model != "judge":
            return f"answer to {question}"
        said = json.loads(question)
        assert said["rubric"] == "It answers."
        assert said["answer"] == f"answer to {said['question']}"
        return {"q0": "SCORE: 8", "q1": "SCORE: 10"}.get(said["question"], "Splendid! SCORE: 10")

    provider.knows = knows
    suite = desk.suite(3, **JUDGED)
    code, _, err = desk.eval("run", "--suite", suite, "--models", "p/m")
    assert (code, provider.asked) == (2, [])
    assert "items.jsonl:1" in err
    assert "--judge" in err
    told = desk.ask("run", "--suite", suite, "--models", "p/m", "--judge", "p/judge", code=1)
    rows = {row["category"]: row for row in told["scores"]}
    assert (float(rows["reasoning"]["mean"]), rows["reasoning"]["ungraded"]) == (0.8, 1)
    assert float(rows["code"]["mean"]) == 1
    assert rows["reasoning"]["judge_cost_usd"] == 2 * CALL_USD
    assert told["spent_usd"] == 6 * CALL_USD
    assert [each["why"] for each in told["lost"]] == ["the judge did not answer with a score"]
    judged = [body for body in provider.bodies if body["model"] == "judge"]
    assert {body["temperature"] for body in judged} == {0}
    assert len({body["messages"][0]["content"] for body in judged}) == 1, "one fixed rubric prompt"
    assert {each["tags"].get("judge") for each in desk.receipts()} == {None, "yes"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--suite", "nowhere", "--models", "p/m"), 3, "There is no folder nowhere"),
        (("--suite", "basics", "--models", ","), 2, "--models names none"),
        (("--suite", "basics", "--models", "nobody/knows"), 3, "nobody/knows"),
        (("--suite", ".", "--models", "p/m"), 2, "no item"),
        (("--suite", "bad", "--models", "p/m"), 2, "items.jsonl:2: not JSON"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_call(
    desk: Desk, provider: Provider, words: tuple[str, ...], code: int, said: str
) -> None:
    (desk.folder / "bad").mkdir()
    (desk.folder / "bad" / "items.jsonl").write_text("{}\nnope\n")
    ended, out, err = desk.eval("run", *words)
    assert (ended, out, provider.asked) == (code, "", [])
    assert said in err


def test_a_limit_asks_some_of_each_category_and_the_own_suite_needs_no_folder(
    desk: Desk, provider: Provider
) -> None:
    told = desk.ask("run", "--suite", "basics", "--models", "p/m", "--limit", "1")
    assert (told["items"], told["suite"]) == (4, "basics")
    assert len(provider.asked) == 4
    assert from_usd(told["spent_usd"]) == 4 * from_usd(CALL_USD)
