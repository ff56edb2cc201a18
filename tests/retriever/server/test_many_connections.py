"""The engines of a large training at once: more connections than a shell's usual limit of open files."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from retriever.index.corpus import write_corpus

pytestmark = pytest.mark.slow

CONNECTIONS = 3_000
ASKED = json.dumps({"queries": ["akkadian spirit"], "top_k": 1}).encode()
REQUEST = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ASKED), ASKED,
)  # fmt: skip


@pytest.fixture
def many_files():
    """As many open files as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + 500:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_beyond_the_soft_limit_are_all_answered(many_files, passages, tmp_path):
    """Soft limit 1024, hard limit 4096; every connection stays open until all have their answer, and asks again."""
    corpus, ready, log = tmp_path / "passages.jsonl", tmp_path / "url", tmp_path / "log"
    write_corpus(corpus, passages)
    command = [sys.executable, "-m", "retriever.server", "--corpus", corpus, "--port", "0", "--ready-file", ready]
    limited = ["bash", "-c", 'ulimit -Sn 1024 && ulimit -Hn 4096 && exec "$@"', "bash", *map(str, command)]
    with (
        log.open("wb") as output,
        subprocess.Popen([*limited, "--exit-with-parent", str(os.getpid())], stderr=output) as server,
    ):
        try:
            answers = asyncio.run(ask(ready, server))
        finally:
            server.terminate()
    said = log.read_text()
    assert "open files: at most 4096, connections: at most 3896" in said
    assert answers == [200] * (2 * CONNECTIONS), said[-2000:]


async def ask(ready: Path, server: subprocess.Popen) -> list[int]:
    while not ready.exists():
        assert server.poll() is None, "the server has ended"
        await asyncio.sleep(0.05)
    port = int(ready.read_text().strip().rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    found = []
    for _ in range(2):
        found += await asyncio.gather(*(answer(*connection) for connection in opened))
    for _, writer in opened:
        writer.close()
    return found


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The status of one search; reads its whole answer."""
    writer.write(REQUEST)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])
