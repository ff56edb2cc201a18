"""A web site against its readers: odd HTML, headers, charsets, redirects and compressions, each a function of a seed.

    PYTHONPATH=tests python -m support.hostile.web_site --pages 20000 --urls 5000

plays them through the episode loop and tells what came of it; the suite does the same with a few hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from tqdm import tqdm

from foundation.retry import RetryPolicy
from r1_searcher.episode.rollout import Environment, run_episode
from r1_searcher.recipe.protocols import R1_SEARCHER_TINY
from retriever.web.pages import PageRetriever
from retriever.web.rate_limit import Rate
from support.episodes.fakes import ROOMY, ROW, ScriptedPolicy, ask, say, tag_tokenizer
from support.services.fake_web import article

GOOD = article("Good", "The tower of this town was built by an engineer called Koechlin. " * 8).encode()
GOOD_EVERY = 20
"""Of the site's pages, each 20th is a good one."""
DEADLINE_S = 15.0
SLACK_S = 5.0
"""What an episode may take beyond its page's deadline, on a busy machine."""
_TAGS = """
    p div span a b table tr td th ul li math row cell mrow mi svg g foreignobject template script style noscript
    iframe frameset frame form input select option textarea title head body html meta base br hr img video article
    section h1 h2 pre code blockquote q cite time main nav footer details summary xml plaintext
"""
_CLASSES = ("comment author date", "post-date", "byline", "article-body", "content", "hidden", "date", "comments")
_CHARSETS = """
    utf-8 utf-16 utf-7 utf-32 latin-1 punycode idna base64 rot13 hex zlib bz2 unicode_escape raw_unicode_escape
    cp1252 gbk hz shift_jis iso-2022-jp iso-2022-kr mbcs oem undefined koi8-r x-sjis euc_jis_2004 palmos ../../x
"""
_TYPES = (
    b"text/html", b"TEXT/HTML ", b"text/plain", b"application/xhtml+xml", b"application/pdf", b"", b"text/html;;;",
    b"text/html; charset*0=a; charset*=us-ascii'en'b", b"text/html;\xff\xc3\xa9charset*0=9(", b'text/html; charset="',
    b"text/html; charset=" + b"a" * 3000, b"\xe4\xb8\xad/\xe6\x96\x87", b"text/html\t;charset = utf-8",
)  # fmt: skip
_LOCATIONS = (
    b"http://[", b"//[", b"http://a]b/", "http://℀/".encode(), b"/", b"", b"?", b"http:///x", b"javascript:alert(1)",
    b"http://" + b"a" * 70 + b".test/", b"http://u:p@127.0.0.1/", b"//\xff\xfe/", b"http://127.0.0.1:99999/", b"\t\t",
    b"http://xn--/", b"http://%00/", b"/\xc3\xa9\xff", b"http://.../", b"http://[::1%25lo]/", b"file:///etc/passwd",
)  # fmt: skip
_WORDS = ("Koechlin", "2021-02-30", "13. Juli", "日本", "é", "&amp;", "&#0;", "&#x110000;", "<!--", "-->", "\x00")
_URL_PARTS = (
    "http://", "https://", "//", "/", ":", "@", "[", "]", "%", "%zz", "#", "?", "\\", ".", "..", "a", "日本", "ß", "℀",
    "xn--", "127.0.0.1", "localhost", "example.test", "::1", "0x7f", "80", "99999", "\u202e", "\x00", "\n",
    " ", "user", "é", "１２７", "a" * 64, "&", "=", "'", '"', "<", "|", "{}", "file:", "gopher:", "HTTP://", "½", "②",
)  # fmt: skip


def hostile_answer(seed: object) -> bytes:
    """A whole HTTP answer."""
    draw = random.Random(str(seed))
    if draw.random() < 0.15:
        status = draw.choice((301, 302, 303, 307, 308, 300, 304))
        return _answer(status, [(b"Location", draw.choice(_LOCATIONS))], b"")
    body, headers = hostile_html(draw), [(b"Content-Type", _content_type(draw))]
    if draw.random() < 0.1:
        packed = draw.choice((gzip.compress(body), zlib.compress(body), body, gzip.compress(body)[:-9] + b"junk" * 3))
        headers.append((b"Content-Encoding", draw.choice((b"gzip", b"deflate", b"br", b"zstd", b"x-odd"))))
        body = packed
    for _ in range(draw.randrange(3)):
        name = draw.choice((b"Set-Cookie", b"X-Odd", b"Link", b"Refresh", b"Content-Language", b"Retry-After", b"\xff"))
        headers.append((name, bytes(draw.choices(range(32, 256), k=draw.randrange(60)))))
    status = draw.choice((200,) * 12 + (204, 206, 404, 429, 500, 999))
    whole = _answer(status, headers, body)
    return whole[: draw.randrange(len(whole))] if draw.random() < 0.03 else whole


def _answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Odd" % status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]) + body


def _content_type(draw: random.Random) -> bytes:
    if draw.random() < 0.4:
        return draw.choice(_TYPES)
    return f"text/{draw.choice(('html', 'plain'))}; charset={draw.choice(_CHARSETS.split())}".encode()


def hostile_html(draw: random.Random) -> bytes:
    """Soup of tags, or a good page with damage."""
    if draw.random() < 0.3:
        page = bytearray(GOOD)
        for _ in range(draw.randrange(1, 40)):
            place = draw.randrange(len(page))
            page[place : place + draw.randrange(4)] = bytes(draw.choices(range(256), k=draw.randrange(6)))
        return bytes(page)
    parts: list[str] = [draw.choice(("", "<!doctype html>", "<?xml version='1.0' encoding='punycode'?>", "\ufeff"))]
    for _ in range(draw.randrange(1, 120)):
        parts.append(draw.choice((_open_tag, _close_tag, _words))(draw))
    if draw.random() < 0.02:
        parts.append(draw.choice(("<div>" * 20_000, "<b " + "a=1 " * 3000 + ">", "&lt;" * 30_000)))
    return "".join(parts).encode(draw.choice(("utf-8", "utf-16", "latin-1", "gbk")), "replace")


def _open_tag(draw: random.Random) -> str:
    attributes = draw.choice(("", f" class='{draw.choice(_CLASSES)}'", " itemprop=datePublished", " id=x hidden", " ="))
    return f"<{draw.choice(_TAGS.split())}{attributes}{draw.choice(('>', '/>', '', ' >'))}"


def _close_tag(draw: random.Random) -> str:
    return f"</{draw.choice(_TAGS.split())}>"


def _words(draw: random.Random) -> str:
    return " ".join(draw.choices(_WORDS, k=draw.randrange(1, 12)))


def hostile_url(seed: object) -> str:
    """Something that a policy may write where an address is expected."""
    draw = random.Random(f"url {seed}")
    start = draw.choice(("http://", "https://", "http://", ""))
    return start + "".join(draw.choices(_URL_PARTS, k=draw.randrange(1, 8)))


@asynccontextmanager
async def hostile_site(seed: int) -> Iterator[str]:
    """The site on this machine; gives its address, to which a page's number is added."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readline()).split()[1].decode("latin-1")
            while (await reader.readline()).strip():
                pass
            number = path.strip("/")
            good = number.isdecimal() and int(number) % GOOD_EVERY == 0
            reply = _answer(200, [(b"Content-Type", b"text/html; charset=utf-8")], GOOD)
            writer.write(reply if good else hostile_answer((seed, path)))
            await writer.drain()
        except (OSError, IndexError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@dataclass
class Outcome:
    """What came of many episodes."""

    played: int = 0
    read: int = 0
    good_missed: list[str] = field(default_factory=list)
    late: list[tuple[str, float]] = field(default_factory=list)
    raised: list[tuple[str, str]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def faults(self) -> list[str]:
        """What must not be, in words: an exception, a late episode, a good page that was not read."""
        return [
            *(f"{url}: {error}" for url, error in self.raised),
            *(f"{url}: took {seconds:.1f} s" for url, seconds in self.late),
            *(f"{url}: a good page, not read" for url in self.good_missed),
        ]


async def play_all(
    urls: list[str],
    is_good: Callable[[str], bool],
    *,
    at_once: int,
    allow_private: bool,
    played: Callable[[], object] = int,
) -> Outcome:
    """Read each address in an episode of its own; `played` is called at the end of each."""
    outcome, places, tokenizer = Outcome(), asyncio.Semaphore(at_once), tag_tokenizer()
    pages = PageRetriever(
        retry=RetryPolicy(1, deadline=DEADLINE_S), rate=Rate(1e6, 10_000), allow_private=allow_private, probes=()
    )
    environment = Environment(R1_SEARCHER_TINY, replace(ROOMY, top_k=1), pages, tokenizer)

    async def play(url: str) -> None:
        async with places:
            started = time.monotonic()
            try:
                episode = await run_episode(environment, ROW, ScriptedPolicy(tokenizer, [ask(url), say("x")]))
            except Exception as error:
                outcome.raised.append((url, repr(error)))
                return
            finally:
                played()
            seconds = time.monotonic() - started
            outcome.slowest_s = max(outcome.slowest_s, seconds)
            if seconds > DEADLINE_S + SLACK_S:
                outcome.late.append((url, seconds))
            outcome.played += 1
            shown = bool(episode.searches and episode.searches[0].shown_ids)
            outcome.read += shown
            if is_good(url) and not shown:
                outcome.good_missed.append(url)

    try:
        await asyncio.gather(*map(play, urls))
    finally:
        await pages.close()
    outcome.failures = pages.stats.failures
    return outcome


async def fuzz_pages(
    count: int, seed: int = 0, *, first: int = 0, at_once: int = 16, played: Callable[[], object] = int
) -> Outcome:
    """Read `count` pages of the hostile site."""
    async with hostile_site(seed) as site:
        urls = [f"{site}{number}" for number in range(first, first + count)]
        return await play_all(
            urls,
            lambda url: int(url.rpartition("/")[2]) % GOOD_EVERY == 0,
            at_once=at_once,
            allow_private=True,
            played=played,
        )


async def fuzz_urls(count: int, seed: int = 0, *, first: int = 0, played: Callable[[], object] = int) -> Outcome:
    """Ask for `count` odd addresses."""
    urls = [hostile_url((seed, number)) for number in range(first, first + count)]
    return await play_all(urls, lambda url: False, at_once=16, allow_private=False, played=played)


def main() -> int:
    """Play many, and print what came of them; status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--urls", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults: list[str] = []
    for kind, count, fuzz in (("pages", options.pages, fuzz_pages), ("addresses", options.urls, fuzz_urls)):
        if not count:
            continue
        with tqdm(total=count, desc=kind, unit=f" {kind}") as bar:
            outcome = asyncio.run(fuzz(count, options.seed, first=options.first, played=bar.update))
        faults += outcome.faults()
        print(
            f"{kind}: {outcome.played} of {count} played, {outcome.read} read, slowest {outcome.slowest_s:.1f} s,",
            f"{len(outcome.faults())} faults; not read: {dict(outcome.failures.most_common())}",
        )
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
