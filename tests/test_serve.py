"""serve.py: a real server on loopback, and its queue and limits with a model that waits for us."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from conftest import HANGS

import modernbert_nli
from modernbert_nli import embedded
from modernbert_nli.guards import REASONS
from modernbert_nli.loading import load_pipeline
from modernbert_nli.publishing.handler import EndpointHandler
from modernbert_nli.serving.command import about, parse_args
from modernbert_nli.serving.queue import Closed, Job, ModelQueue, QueueFull
from modernbert_nli.serving.service import create_app
from modernbert_nli.serving.settings import Settings

PAIRS = [
    {"premise": f"{count} men are playing guitar on stage.", "hypothesis": "People are making music."}
    for count in range(2, 66)
]
CHUNKED = b"Transfer-Encoding: chunked"
SECRET = "The zyzzyva sleeps"


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


@contextmanager
def served(pipe, **settings) -> Iterator[httpx.Client]:
    """A client of a real server in a thread."""
    limits = Settings(**settings)
    config = uvicorn.Config(
        create_app(pipe, limits, {"base": "x"}),
        port=0,
        log_level="critical",
        timeout_graceful_shutdown=limits.shutdown_timeout,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(pipe) -> Iterator[httpx.Client]:
    with served(pipe) as client:
        yield client


class Waiting:
    """A pipeline that answers when it may, and notes what it was asked at once."""

    def __init__(self) -> None:
        self.may, self.busy, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, pairs, **options):
        self.batches.append(pairs)
        self.busy.set()
        assert self.may.wait(HANGS)
        return [{"label": premise, "abstain": False} for premise, _ in pairs]


def until_nobody_waits(client, opened, leaves: bool) -> None:
    """A client leaves, or is told that there is no more time; the service has noted which."""
    if leaves:
        opened.close()
    else:
        assert b" 504 " in opened.recv(100)
    status = "499" if leaves else "504"
    while f'status="{status}"}} 1.0' not in client.get("/metrics").text:
        pass


def same(found: dict, expected: dict) -> None:
    """But for the rounding that another batch brings."""
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, abs=1e-4) if isinstance(value, float) else value), key


def test_pairs(client, pipe):
    """The pipeline's answers, in order, with its options."""
    answer = client.post("/judge", json={"pairs": PAIRS[:5], "threshold": 0.0})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert all(result["abstain"] for result in results)
    expected = pipe([(pair["premise"], pair["hypothesis"]) for pair in PAIRS[:5]], threshold=0.0)
    for found, of_pipe in zip(results, expected, strict=True):
        same(found, {key: of_pipe[key] for key in ("label", "confidence", "abstain", "uncertainty")})


def test_a_result_says_why_it_abstains(client, pipe):
    """In HTTP as in Python; the schema has all reasons."""
    texts = [
        ("It rains.", "It rains!"),
        ("It costs 5 euros now.", "It costs 7 euros now."),
        ("Wi-Fi ✅", "Wi-Fi ❌"),
    ]
    question = {"pairs": [dict(zip(("premise", "hypothesis"), pair, strict=True)) for pair in texts]}
    results = client.post("/judge", json=question).json()["results"]
    for found, of_pipe in zip(results, pipe(texts), strict=True):
        same(found, {key: of_pipe[key] for key in ("label", "abstain", "reason")})
    assert (results[0]["rule"], results[0]["reason"]) == ("verbatim", None)
    schema = client.get("/openapi.json").json()
    said = schema["paths"]["/judge"]["post"]["responses"]["200"]["description"]
    assert all(reason in said for reason in REASONS)


def test_routes_and_checks(client, pipe):
    """As `route` and `check` of the pipeline."""
    categories = {"delivery": "This is about a delivery.", "music": "This is about music."}
    question = {"texts": ["Where is my parcel?", "I like jazz."], "categories": categories}
    routed = client.post("/route", json=question).json()["results"]
    for found, expected in zip(routed, pipe.route(question["texts"], categories), strict=True):
        same(found, {key: expected[key] for key in ("category", "uncertainty", "reason")})
    question = {"answer": "It opened in 1932. It is red.", "sources": {"a": "The bridge opened in 1932."}}
    checked, expected = client.post("/check", json=question).json(), pipe.check(**question)
    same(checked, {key: expected[key] for key in ("verdict", "confidence", "read")})
    assert [of["text"] for of in checked["sentences"]] == ["It opened in 1932.", "It is red."]


def test_many_clients_at_once(client, pipe):
    """Each gets its own answer."""

    def ask(pair: dict) -> dict:
        return client.post("/judge", json={"pairs": [pair]}).json()["results"][0]

    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(ask, PAIRS))
    expected = pipe([(pair["premise"], pair["hypothesis"]) for pair in PAIRS])
    for found, of_pipe in zip(answers, expected, strict=True):
        same(found, {key: of_pipe[key] for key in ("label", "confidence", "uncertainty")})


def test_who_waits_together_is_judged_together():
    """Up to a batch; others have their own options."""
    pipe = Waiting()
    with served(pipe, batch_size=8) as client, ThreadPoolExecutor(16) as clients:

        def ask(number: int) -> str:
            question = {"pairs": [{"premise": str(number), "hypothesis": "x"}]}
            extra = {"threshold": 0.5} if number == 9 else {}
            return client.post("/judge", json={**question, **extra}).json()["results"][0]["label"]

        first = clients.submit(ask, 0)
        assert pipe.busy.wait(HANGS)
        rest = [clients.submit(ask, number) for number in range(1, 13)]
        wait_until(client, 12)
        pipe.may.set()
        assert [answer.result() for answer in [first, *rest]] == [str(number) for number in range(13)]
        told = client.get("/metrics").text
    sizes = sorted(len(batch) for batch in pipe.batches)
    assert (sizes[0], sum(sizes)) == (1, 13)
    assert 1 < sizes[-1] <= 8
    assert [("9", "x")] in pipe.batches
    assert 'modernbert_nli_requests_total{path="/judge",status="200"} 13.0' in told
    assert "modernbert_nli_batch_items_count" in told


def test_a_full_queue_and_no_time_left():
    """429 with the time to come back, and 504; who is in the queue is answered all the same."""
    pipe = Waiting()
    question = {"pairs": [{"premise": "a", "hypothesis": "b"}]}
    with served(pipe, max_waiting=1) as client, ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(client.post, "/judge", json=question)]
        assert pipe.busy.wait(HANGS)
        waiting.append(clients.submit(client.post, "/judge", json=question))
        wait_until(client, 1)
        refused = client.post("/judge", json=question)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        pipe.may.set()
        assert [answer.result().status_code for answer in waiting] == [200, 200]
    pipe = Waiting()
    with served(pipe, timeout=0.05) as client:
        late = client.post("/judge", json=question)
        assert late.status_code == 504
        pipe.may.set()
        assert client.get("/health").json()["waiting"] == 0


def wait_until(client: httpx.Client, count: int) -> None:
    while client.get("/health").json()["waiting"] != count:
        pass


def connection(client: httpx.Client, content: bytes) -> socket.socket:
    """A connection on which this has been sent."""
    opened = socket.create_connection((client.base_url.host, client.base_url.port), timeout=HANGS)
    opened.sendall(content)
    return opened


def post(path: str, question: object, length: int | None = None) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(question).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


def asks(premise: str) -> dict:
    return {"pairs": [{"premise": premise, "hypothesis": "x"}]}


def test_what_clients_that_left_had_asked_is_never_judged():
    """Nor does it stand in the way of others, or count among those that wait; the log and metrics tell."""
    pipe = Waiting()
    with served(pipe, max_waiting=12) as client, ThreadPoolExecutor(2) as clients:
        first = clients.submit(client.post, "/judge", json=asks("first"))
        assert pipe.busy.wait(HANGS)
        gone = [connection(client, post("/judge", asks(f"gone {number}"))) for number in range(12)]
        wait_until(client, 12)
        for opened in gone:
            opened.close()
        wait_until(client, 0)
        last = clients.submit(client.post, "/judge", json=asks("last"))
        wait_until(client, 1)
        pipe.may.set()
        assert [answer.result().status_code for answer in (first, last)] == [200, 200]
        told = client.get("/metrics").text
    assert pipe.batches == [[("first", "x")], [("last", "x")]]
    assert 'requests_total{path="/judge",status="499"} 12.0' in told


@pytest.mark.parametrize("leaves", [True, False], ids=["client leaves", "no time left"])
def test_what_runs_ends_after_its_batch(leaves):
    """Of a request of 40 pairs no more than a batch is judged, once nobody waits for it."""
    pipe, question = Waiting(), {"pairs": asks("long")["pairs"] * 40}
    with served(pipe, batch_size=8, timeout=HANGS if leaves else 0.05) as client:
        opened = connection(client, post("/judge", question))
        assert pipe.busy.wait(HANGS)
        until_nobody_waits(client, opened, leaves)
        pipe.may.set()
        assert pipe.batches == [[("long", "x")] * 8]
    assert pipe.batches == [[("long", "x")] * 8]


@pytest.mark.parametrize("leaves", [True, False], ids=["client leaves", "no time left"])
def test_a_check_ends_within_a_few_pages(leaves, pipe):
    """Once nobody waits for it."""
    steps, busy, may = [], threading.Event(), threading.Event()

    class Slow(Waiting):
        def check(self, between, **question):
            def slow():
                steps.append("a few pages")
                busy.set()
                assert may.wait(HANGS)
                between()

            return pipe.check(**question, between=slow)

    long = {"answer": "Long.", "sources": ["The bridge is red. " * 2000] * 5}
    with served(Slow(), timeout=HANGS if leaves else 0.05) as client:
        opened = connection(client, post("/check", long))
        assert busy.wait(HANGS)
        until_nobody_waits(client, opened, leaves)
        may.set()
    assert steps == ["a few pages"]  # of the many that the source has


def test_a_short_request_does_not_wait_for_all_of_a_long_one():
    """They take turns, and each gets all of its answers in their order."""
    pipe = Waiting()
    with served(pipe, batch_size=4) as client, ThreadPoolExecutor(2) as clients:
        pairs = [{"premise": str(number), "hypothesis": "x"} for number in range(14)]
        long = clients.submit(client.post, "/judge", json={"pairs": pairs})
        assert pipe.busy.wait(HANGS)
        short = clients.submit(client.post, "/judge", json={**asks("short"), "threshold": 0.5})
        wait_until(client, 1)
        pipe.may.set()
        assert [result["label"] for result in long.result().json()["results"]] == [*map(str, range(14))]
        assert short.result().json()["results"][0]["label"] == "short"
    assert pipe.batches.index([("short", "x")]) == 1
    assert [len(batch) for batch in pipe.batches] == [4, 1, 4, 4, 2]


def test_a_body_that_does_not_come():
    """408 and an end to the connection, whether all of it is missing or a part."""
    pipe = Waiting()
    with served(pipe, body_timeout=0.05) as client:
        whole = post("/judge", asks("late"), length=10_000)
        for sent in (whole, whole[: whole.index(b"{")], whole.replace(b"Content-Length: 10000", CHUNKED)):
            opened = connection(client, sent)
            answer = b"".join(iter(lambda opened=opened: opened.recv(1000), b""))
            assert answer.startswith(b"HTTP/1.1 408"), answer
            assert b"within 0.05 seconds" in answer
    assert not pipe.batches


def test_who_has_sent_all_may_wait_longer_than_a_body_may_take():
    """The deadline of a body is none for the answer."""
    pipe = Waiting()
    with served(pipe, body_timeout=0.01) as client, ThreadPoolExecutor(1) as clients:
        asked = clients.submit(client.post, "/judge", json=asks("slow"))
        assert pipe.busy.wait(HANGS)
        while b" 408 " not in connection(client, post("/judge", {}, length=10)).recv(100):
            pass
        pipe.may.set()
        assert asked.result().status_code == 200


def test_going_down_does_not_wait_for_the_model():
    """What is asked is told by 503 once its time is over, though the model never ends."""
    pipe = Waiting()
    with ThreadPoolExecutor(2) as clients:
        with served(pipe, shutdown_timeout=1) as client:
            opened = [connection(client, post("/judge", asks("a")))]
            assert pipe.busy.wait(HANGS)
            opened.append(connection(client, post("/judge", asks("b"))))
            wait_until(client, 1)
            answers = [clients.submit(one.recv, 1000) for one in opened]
        assert not pipe.may.is_set()  # and the server has ended all the same
        for answer in answers:
            assert answer.result().startswith(b"HTTP/1.1 503"), answer.result()
    pipe.may.set()


def test_what_is_too_large(pipe):
    """413: by what the header says, by what comes in without one, and by the number of pairs."""
    with served(pipe, max_body=2000, max_pairs=3) as client:
        large = json.dumps({"pairs": [{"premise": "x" * 3000, "hypothesis": "y"}]}).encode()
        assert client.post("/judge", content=large).status_code == 413
        chunks = (large[start : start + 500] for start in range(0, len(large), 500))
        assert client.post("/judge", content=chunks).status_code == 413
        many = [{"premise": "a", "hypothesis": "b"}] * 4
        answer = client.post("/judge", json={"pairs": many})
        assert answer.status_code == 413
        assert "At most 3 pairs, not 4" in answer.json()["detail"]
        assert client.post("/judge", json={"pairs": many[:3]}).status_code == 200


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        ("x" * 992, "At most 1,000 characters in an answer and its sources, not 1,002"),
        (["y" * 496, "y" * 496], "At most 1,000 characters"),
        ({"a": "z" * 496, "b": "z" * 496}, "At most 1,000 characters"),
        (
            "One. Two. Three. Four.",
            "At most 6 pairs of a sentence of an answer and one of its sources, not 8",
        ),
        (["One. Two.", "Three. Four."], "not 8"),
        ("One. Two. Three.", None),
        ("x" * 990, None),
    ],
    ids=["text", "texts", "named", "sentences", "sentences of two", "as many as may be", "as long as may be"],
)
def test_how_much_is_checked(pipe, sources, problem):
    """413 names the limit, and how much it was; the schema states both."""
    with served(pipe, max_characters=1000, max_sentences=6) as client:
        answer = client.post("/check", json={"answer": "It is. So.", "sources": sources})
        assert answer.status_code == (413 if problem else 200), answer.text
        assert problem is None or problem in answer.json()["detail"]
        schema = client.get("/openapi.json").json()
        of = schema["components"]["schemas"]["Check"]
        assert of["properties"]["answer"]["maxLength"] == 1000
        assert "6 pairs of a sentence" in of["description"]
        told = schema["paths"]["/check"]["post"]["responses"]["413"]["description"]
        assert "1,000 characters" in told
        assert "6 pairs of a sentence" in told


def test_a_token(pipe):
    """Who does not know it learns no more than that the service is there."""
    with served(pipe, token="s3cret") as client:
        assert client.get("/health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret"}):
            for path in ("/docs", "/metrics", "/openapi.json"):
                assert client.get(path, headers=headers).status_code == 401
        known = {"Authorization": "Bearer s3cret"}
        assert client.post("/judge", json={"pairs": PAIRS[:1]}, headers=known).status_code == 200


@pytest.mark.parametrize(
    ("path", "question", "problem"),
    [
        ("/judge", {"pairs": []}, "at least 1 item"),
        ("/judge", {"pairs": [{"premise": SECRET}]}, "Field required"),
        ("/judge", {"pairs": [{"premise": SECRET, "hypothesis": 3}]}, "valid string"),
        ("/judge", {"pairs": PAIRS[:1], "treshold": 0.5}, "Extra inputs"),
        ("/judge", {"pairs": PAIRS[:1], "threshold": 1.5}, "less than or equal to 1"),
        ("/judge", {"pairs": PAIRS[:1], "threshold": True}, "valid number"),
        ("/judge", {"pairs": PAIRS[:1], "threshold": "0.5"}, "valid number"),
        ("/judge", {"pairs": PAIRS[:1], "target_risk": False}, "valid number"),
        ("/judge", {"pairs": PAIRS[:1], "encoding": "mixed"}, "encoding"),
        ("/judge", {"pairs": PAIRS[:1], "threshold": 0.5, "target_risk": 0.1}, "target_risk"),
        ("/route", {"texts": ["a"], "categories": {}}, "categor"),
        ("/route", {"texts": ["a"], "categories": ["b"], "threshold": True}, "valid number"),
        ("/route", {"texts": ["a"], "categories": ["b"], "several": 1}, "valid boolean"),
        ("/route", {"texts": ["a"], "categories": ["b"], "several": "yes"}, "valid boolean"),
        ("/check", {"answer": "a", "sources": "a", "threshold": True}, "valid number"),
        ("/check", {"answer": "a", "sources": "a", "max_characters": True}, "valid integer"),
        ("/check", {"answer": "a", "sources": "a", "max_characters": 2.5}, "valid integer"),
        ("/check", {"answer": "", "sources": "a"}, "answer"),
        ("/check", {"answer": "It is.", "sources": []}, "source"),
    ],
)
def test_bad_questions(client, path, question, problem):
    """422, and what is wrong, without what was asked."""
    answer = client.post(path, json=question)
    assert answer.status_code == 422, answer.text
    assert problem in answer.text
    assert SECRET not in answer.text


def test_no_json_and_no_such_path(client):
    """Are told apart from each other."""
    assert client.post("/judge", content=b"\x00{").status_code == 422
    assert client.post("/nothing", json={}).status_code == 404
    assert client.get("/judge").status_code == 405


def test_the_log_has_a_line_for_each_answer_and_no_text(client, caplog):
    """JSON, of known keys."""
    with caplog.at_level(logging.INFO, "modernbert_nli.serve"):
        client.post("/judge", json={"pairs": [{"premise": SECRET, "hypothesis": SECRET}]})
        client.post("/judge", json={"pairs": [{"premise": SECRET}]})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "modernbert_nli.serve"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/judge", 200),
        ("POST", "/judge", 422),
    ]
    assert SECRET not in caplog.text


def test_openapi_and_health(client):
    """What is offered is described."""
    assert set(client.get("/openapi.json").json()["paths"]) == {"/judge", "/route", "/check", "/health"}
    assert client.get("/health").json() == {"status": "ok", "waiting": 0, "base": "x"}
    head = client.head("/health")
    assert (head.status_code, head.content) == (200, b"")
    judge = client.get("/openapi.json").json()["components"]["schemas"]["Judge"]
    assert judge["properties"]["pairs"]["maxItems"] == Settings().max_pairs


def run(test: Callable) -> None:
    asyncio.run(test())


def test_one_bad_job_spoils_no_other():
    """Jobs that ran together run alone when one fails."""

    def work(items: list[int]) -> list[int]:
        if 3 in items:
            raise ValueError("three")
        return [2 * item for item in items]

    async def test() -> None:
        queue = ModelQueue(10, 10)
        asked = [queue.ask(Job(work, [number], "alike")) for number in range(5)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [results[number] for number in (0, 1, 2, 4)] == [[0], [2], [4], [8]]
        assert isinstance(results[3], ValueError)
        await queue.close()
        with pytest.raises(Closed):
            await queue.ask(Job(work, [1]))

    run(test)


def test_who_waits_when_it_closes_is_told():
    """What is being judged is finished."""
    may = threading.Event()

    def work(items: list[int]) -> list[int]:
        assert may.wait(HANGS)
        return items

    async def test() -> None:
        queue = ModelQueue(1, 1)
        first = asyncio.create_task(queue.ask(Job(work, [1])))
        await asyncio.sleep(0)
        second = asyncio.create_task(queue.ask(Job(work, [2])))
        while len(queue) != 1:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await queue.ask(Job(work, [3]))
        closing = asyncio.create_task(queue.close())
        await asyncio.sleep(0)
        may.set()
        await closing
        assert await first == [1]
        with pytest.raises(Closed):
            await second

    run(test)


def test_the_command(pipe):
    """Its limits are those of the settings."""
    args = parse_args(["--max_pairs", "5"])
    assert (args.max_pairs, args.timeout, args.host) == (5, Settings().timeout, "127.0.0.1")
    with pytest.raises(SystemExit):
        parse_args(["--timeout", "0"])
    assert about(pipe)["base"] == pipe.model.config.base_model_name_or_path


def test_the_handler_of_a_checkpoint(pipe, tmp_path):
    """As Inference Endpoints call it: the folder once, then a dict for each request."""
    base = {"base_model_name_or_path": str(embedded.base_folder())}
    modernbert_nli.load().save_pretrained(tmp_path)  # with the code, as on the Hub
    handler = EndpointHandler(str(tmp_path), model_kwargs=base)
    pair = {"premise": "A man plays guitar on stage.", "hypothesis": "A man is making music."}
    same(handler({"inputs": pair}), {"label": pipe(pair)["label"]})
    both = handler({"inputs": [pair, pair], "parameters": {"threshold": 0.0}})
    assert [result["abstain"] for result in both] == [True, True]
    routed = handler({"inputs": {"text": "Where is my parcel?", "categories": ["parcels", "music"]}})
    assert set(routed["scores"]) == {"parcels", "music"}
    checked = handler({"inputs": {"answer": "It is red.", "sources": "The bridge is red."}})
    assert checked["verdict"] in ("supported", "contradicted", "not supported", "uncertain")
    for wrong in ({}, {"inputs": "a text"}, {"inputs": None}):
        with pytest.raises(ValueError, match="`inputs` is a pair"):
            handler(wrong)
