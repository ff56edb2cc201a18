"""`python -m retriever.server`: ready file, signals, the parent's end, token, usage errors.

What ends a process is tested on processes; the rest asks the command in this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.processes.commands import status_of
from support.services.http_clients import http_retriever
from support.services.search_servers import Stop

from foundation.files import write_whole
from foundation.process import TOKEN_VARIABLE, bind, url_of
from foundation.web_server import HttpServer
from retriever import RetrieverRejected, RetrieverUnavailable, SearchRequest
from retriever.index.corpus import write_corpus
from retriever.index.dense import DenseIndex
from retriever.index.encoder import HashingEncoder
from retriever.server import __main__ as server_command
from retriever.server.__main__ import main
from retriever.server.app import create_app
from retriever.server.search_service import SearchService

SERVER = [sys.executable, "-m", "retriever.server"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, passages) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "passages.jsonl"
    write_corpus(file, passages)
    return file


def wait_for(condition, seconds: float = 30.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "waited too long"
        time.sleep(0.02)


@contextlib.contextmanager
def started(command, **streams) -> Iterator[subprocess.Popen[str]]:
    """A process that a failing test does not leave behind, or wait for."""
    with subprocess.Popen([str(part) for part in command], text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(url: str):
    async def once():
        async with http_retriever(url, attempts=1) as client:
            return await client.health(), await client.search(SearchRequest("akkadian spirit", 2))

    return asyncio.run(once())


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_signal(corpus, tmp_path, number, passages):
    """Started from a thread that ends at once: what counts as the parent is the process."""
    ready = tmp_path / "url"
    ready.write_text("http://stale\n")
    command = [*SERVER, "--corpus", corpus, "--port", "0", "--ready-file", ready, "--exit-with-parent", os.getpid()]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as short:
        process = short.submit(stack.enter_context, started(command, stderr=subprocess.PIPE)).result()
        short.shutdown()
        wait_for(lambda: ready.exists() and "stale" not in ready.read_text())
        url = ready.read_text().strip()
        health, hits = ask(url)
        assert health.passages == len(passages) and {hit.passage.id for hit in hits} == {"p0", "p1"}
        process.send_signal(number)
        log = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and not ready.exists()
    assert f"ready at {url}" in log and "is gone" not in log and "Traceback" not in log and "bm25s" not in log


def test_a_saved_dense_index(passages, tmp_path, serve_command):
    DenseIndex.build(passages, HashingEncoder(128)).save(tmp_path / "index")
    with serve_command("--index", tmp_path / "index") as url:
        health, hits = ask(url)
    assert health.index == "dense:hashing" and len(hits) == 2


def test_bad_arguments_are_one_line_and_code_2(corpus, tmp_path, bm25, capsys, monkeypatch):
    # In this process, for speed: it must keep its own signal handlers.
    monkeypatch.setattr("retriever.server.__main__.StopSignal", lambda: None)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    bm25.save(tmp_path / "index")
    (tmp_path / "bad-token").write_text("s3cret token\n")
    free = ["--corpus", corpus, "--port", "0"]
    cases = [
        ([], "--corpus --index"),
        (["--corpus", tmp_path / "none.jsonl", "--port", "0"], "cannot read corpus"),
        (["--corpus", corpus, "--index", tmp_path], "not allowed"),
        (["--corpus", corpus, "--port", "70000"], "0 to 65535"),
        ([*free, "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        ([*free, "--threads", "0"], "at least 1"),
        ([*free, "--backend", "nope"], "invalid choice"),
        ([*free, "--backend", "dense"], "needs an encoder"),
        ([*free, "--encoder", "hashing"], "takes no encoder"),
        (["--index", tmp_path / "none", "--port", "0"], "not a saved index"),
        (["--index", tmp_path / "index", "--port", "0", "--backend", "dense"], "'bm25'"),
        ([*free, "--ready-file", tmp_path / "no" / "url"], "folder does not exist"),
        ([*free, "--exit-with-parent", str(os.getpid())], "gone already"),
        ([*free, "--cache-size", "-1"], "at least 0"),
        ([*free, "--max-batch", "0"], "at least 1"),
        ([*free, "--nprobe", "8"], "--nprobe cannot be combined with --corpus"),
        (
            ["--index", tmp_path / "index", "--port", "0", "--factory", "Flat"],
            "--factory cannot be combined with --index",
        ),
        ([*free, "--token-file", tmp_path / "none"], "No such file"),
        ([*free, "--token-file", tmp_path / "bad-token"], "printable ASCII"),
    ]
    for case, said in cases:
        assert status_of(main, *case) == 2, case
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1 and said in errors, (case, errors)
        assert "s3cret" not in errors


def test_a_bad_start_is_quick_and_quiet(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    command = [*SERVER, "--corpus", empty, "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "is empty" in done.stderr


def test_a_taken_port_is_one_line(corpus, monkeypatch, capsys):
    monkeypatch.setattr("retriever.server.__main__.StopSignal", Stop)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert status_of(main, "--corpus", corpus, "--port", taken.getsockname()[1]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and "cannot listen" in errors


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "retriever.server", *sys.argv[2:]], stderr=subprocess.DEVNULL)
while not os.path.exists(sys.argv[1]): time.sleep(0.02)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.e2e
def test_stops_when_its_parent_is_killed(corpus, tmp_path):
    ready = tmp_path / "url"
    command = [sys.executable, "-c", PARENT, ready, "--corpus", corpus, "--port", "0", "--ready-file", ready]
    with started([*command, "--exit-with-parent"], stdout=subprocess.PIPE) as parent:
        server_pid = int(parent.stdout.readline())
        url = ready.read_text().strip()
        ask(url)
        parent.kill()
    try:
        wait_for(lambda: not ready.exists())
        with pytest.raises(RetrieverUnavailable):
            ask(url)
    except AssertionError:
        os.kill(server_pid, signal.SIGKILL)
        raise


def test_requests_under_way_are_answered_before_stopping(serve_index, passages, bm25):
    class Slow:
        name = "slow"

        def __len__(self) -> int:
            return len(passages)

        def search(self, queries, top_k):
            under_way.set()
            wait_for(lambda: service.health.status == "stopping")
            return bm25.search(queries, top_k)

    async def search(url: str) -> None:
        async with http_retriever(url, attempts=1) as client:
            answers.append(await client.search(SearchRequest("paris", 1)))

    under_way, answers, service = threading.Event(), [], SearchService()
    with serve_index(Slow(), service) as url:
        thread = threading.Thread(target=lambda: asyncio.run(search(url)))
        thread.start()
        under_way.wait(timeout=5)
    thread.join(timeout=5)
    assert len(answers[0]) == 1


@pytest.mark.parametrize("place", ["file", "environment"])
def test_the_token_comes_from_a_file_or_the_environment(corpus, tmp_path, monkeypatch, caplog, serve_command, place):
    caplog.set_level("INFO")
    monkeypatch.setenv(TOKEN_VARIABLE, "right" if place == "environment" else "another")
    flags = []
    if place == "file":
        (tmp_path / "token").write_text("right\n")
        flags = ["--token-file", tmp_path / "token"]
    with serve_command("--corpus", corpus, *flags) as url:
        monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
        with pytest.raises(RetrieverRejected, match="401"):
            ask(url)
        monkeypatch.setenv(TOKEN_VARIABLE, "right")
        assert len(ask(url)[1]) == 2
    assert f"ready at {url}" in caplog.text and "right" not in caplog.text


@pytest.mark.parametrize(("flags", "warns"), [((), True), (("--device", "cpu"), False)])
def test_an_encoder_that_takes_a_gpu_unasked_says_so(passages, tmp_path, monkeypatch, caplog, flags, warns):
    DenseIndex.build(passages, HashingEncoder(16)).save(tmp_path / "index")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
    args = server_command.parser().parse_args(["--index", str(tmp_path / "index"), *flags])
    server_command.open_index(args)
    assert ("the encoder takes cuda:0" in caplog.text) == warns


def test_the_socket_answers_while_the_index_loads(bm25):
    service, loaded, seen = SearchService(), threading.Event(), []
    app = create_app(service)

    async def watch(url: str) -> None:
        async with http_retriever(url, attempts=1) as client:
            for call in (client.health, lambda: client.search(SearchRequest("paris", 1))):
                try:
                    await call()
                except RetrieverUnavailable as error:
                    seen.append(str(error))
        loaded.set()
        async with http_retriever(url, attempts=4, backoff=0.2) as client:
            seen.append(len(await client.search(SearchRequest("paris", 1))))
        stop.now()

    def work() -> None:
        assert loaded.wait(10)
        service.open(bm25)

    stop = Stop()
    with bind("127.0.0.1", 0) as listener:
        server = HttpServer(app, listener, threads=4, max_body_bytes=1000)
        thread = threading.Thread(target=lambda: asyncio.run(watch(url_of("127.0.0.1", listener))))
        thread.start()
        server.load(work)
        server.serve(stop, None, "", service.stop)
        thread.join(10)
    assert len(seen) == 3 and "503" in seen[0] and "the service is loading" in seen[1] and seen[2] == 1


def test_what_loading_raises_is_raised(bm25):
    def work() -> None:
        raise ValueError("no such index")

    with bind("127.0.0.1", 0) as listener:
        server = HttpServer(create_app(SearchService()), listener, threads=1, max_body_bytes=1000)
        with pytest.raises(ValueError, match="no such index"):
            server.load(work)
        server.close()


def test_the_ready_file_appears_whole(tmp_path):
    write_whole(tmp_path / "url", "http://x" + "\n")
    assert [file.name for file in tmp_path.iterdir()] == ["url"] and (tmp_path / "url").read_text() == "http://x\n"
