"""Rewards over HTTP, in OpenRLHF's wire format: `--reward.remote_url http://host:port/get_reward`.

    python -m r1_searcher.reward_server --reward r1_searcher.stage2 --protocol r1_searcher.base --port 8001

`POST /get_reward` (or `/`) takes `{"query": [...], "prompts": [...], "labels": [...]}` and answers
`{"rewards": ..., "scores": ..., "extra_logs": {...}}` as `score_batch`
makes it; what is wrong with a request comes back as `{"error": ...}` on one line with status 400.
`GET /health` names reward and protocol. With REWARD_TOKEN in the environment, or --token-file, requests must carry the
token; a trainer that has the same variable sends it. Exit statuses: 0 after SIGTERM, SIGINT or the parent's end; 2 for
bad input, with one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, positive, run_command
from foundation.errors import InputError
from foundation.process import REWARD_TOKEN_VARIABLE, StopSignal, bind, url_of
from foundation.web_server import (
    MAX_BODY_BYTES,
    Access,
    Capacity,
    HttpServer,
    add_address_options,
    add_lifetime_options,
    begin_lifetime,
    token_of,
    warn_if_open,
)
from r1_searcher.episode.protocol import Protocol
from r1_searcher.recipe.plugins import add_plugin_option
from r1_searcher.recipe.protocols import PROTOCOLS, find_protocol
from r1_searcher.reward.rewards import REWARDS, Reward, find_reward
from r1_searcher.run.reward_batch import check_needs_no_judge, score_batch

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)


def create_app(
    reward: Reward, protocol: Protocol, *, access: Access | None = None, max_body_bytes: int = MAX_BODY_BYTES
) -> Flask:
    """The WSGI app that scores with this reward under this protocol; holds no state.

    Args:
        reward: what scores.
        protocol: under which.
        access: who may ask; default everybody.
        max_body_bytes: of one request's body.

    Raises:
        InputError: the reward asks a judge.
    """
    check_needs_no_judge(reward)
    try:
        from flask import Flask, request
        from werkzeug.exceptions import HTTPException
    except ImportError as error:
        raise ImportError("the reward server needs Flask: pip install flask waitress") from error

    app = Flask("reward", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    (access or Access(None)).guard(app)

    @app.post("/get_reward")
    @app.post("/")
    def get_reward() -> dict[str, Any]:
        queries, prompts, labels = _read_request(request.get_data(cache=False))
        return score_batch(queries, prompts, labels, reward, protocol)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready", "reward": reward.name, "protocol": protocol.name}

    @app.errorhandler(InputError)
    def wrong_request(error: InputError) -> tuple[dict[str, str], int]:
        return {"error": " ".join(str(error).split())}, 400

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"error": f"{request.method} {request.path}: {error.name}"}, error.code or 500

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[dict[str, str], int]:
        logger.exception("%s failed", request.path)
        return {"error": f"scoring failed with {type(error).__name__}, see the server's log"}, 500

    return app


def _read_request(data: bytes) -> tuple[list[str], list[str], list[str]]:
    """Queries, prompts and labels of a request's body."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InputError("the body must be a JSON object with the lists query, prompts and labels")
    return _strings(body, "query"), _strings(body, "prompts"), _strings(body, "labels")


def _strings(body: dict[str, Any], name: str) -> list[str]:
    values = body.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{name!r} must be a list of strings, found {repr(values)[:80]}")
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until a signal; see the module's docstring."""
    options = _parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("r1_searcher.reward_server", lambda: _serve(options))


def _serve(options: argparse.Namespace) -> None:
    signals = StopSignal()
    with expected(ValueError, OSError, ImportError):
        begin_lifetime(options)
        access = Access(token := token_of(options.token_file, REWARD_TOKEN_VARIABLE))
        limit = options.max_body_bytes
        app = create_app(
            find_reward(options.reward), find_protocol(options.protocol), access=access, max_body_bytes=limit
        )
        listener = bind(options.host, options.port)
        capacity = Capacity.of_this_process()
        server = HttpServer(
            app, listener, threads=options.threads, max_body_bytes=limit, access=access, capacity=capacity
        )
    warn_if_open(options.host, token)
    logger.info("%s under %s at /get_reward", options.reward, options.protocol)
    server.serve(signals, options.ready_file, url_of(options.host, listener))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="r1_searcher.reward_server", description="Serve rewards.")
    parser.add_argument("--reward", required=True, metavar="NAME", help=", ".join(REWARDS))
    parser.add_argument("--protocol", required=True, metavar="NAME", help=", ".join(PROTOCOLS))
    add_plugin_option(parser)
    add_address_options(parser.add_argument, token=REWARD_TOKEN_VARIABLE)
    parser.add_argument("--threads", type=positive, default=32, help="requests at once (%(default)s)")
    parser.add_argument(
        "--max-body-bytes", type=positive, default=MAX_BODY_BYTES, metavar="N", help="limit of a request (%(default)s)"
    )
    add_lifetime_options(parser.add_argument)
    return parser


if __name__ == "__main__":
    sys.exit(main())
