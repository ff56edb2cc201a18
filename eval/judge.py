"""A language model judges predictions: `python -m eval.judge FILE --endpoint URL --model NAME [--json OUT]`.

Any OpenAI-compatible endpoint serves; its key is read from the environment. Verdicts are kept beside the
predictions as they come: a second run asks nothing, a killed one loses the questions in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.results.intervals import share_interval
from eval.results.predictions import by_decoding, predictions_file, read_predictions, verdicts_file
from eval.results.scores import percent, percent_with_interval, provenance_beside
from eval.results.summary import failures
from foundation.chat.endpoint import EndpointConfig, OpenAIEndpoint
from foundation.cli import OneLineParser, above_zero, check_output, log_to_stderr, positive, run_command
from foundation.errors import InputError
from foundation.files import text_sha256, write_json
from foundation.owned_folder import beside
from foundation.retry import RetryPolicy
from foundation.text_table import format_table
from r1_searcher.reward.judge import (
    PROMPT,
    Judge,
    Sampling,
    Unjudged,
    Verdict,
    VerdictCache,
    ask_first,
    explain_unjudged,
)
from r1_searcher.run.episode_record import EpisodeRecord

NO_ANSWER = Verdict(correct=False, reply="no answer was given; nobody was asked")


async def judge_all(records: Sequence[EpisodeRecord], judge: Judge) -> list[Verdict]:
    """The verdict on every record, in order, with a progress bar on stderr.

    Raises:
        InputError: the endpoint refuses the first question in a way that it would refuse all.
        RunAborted: a verdict could not be kept, because the disk is full.
    """
    known = await ask_first(judge, [record.case for record in records if record.case is not None])
    with tqdm(total=len(records), desc="judge", unit="q", disable=None) as bar:

        async def one(record: EpisodeRecord) -> Verdict:
            case = record.case
            verdict = NO_ANSWER if case is None else known.get(case) or await judge.judge(case)
            bar.update()
            return verdict

        tasks = [asyncio.create_task(one(record)) for record in records]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def summarize_verdicts(judged: Sequence[tuple[EpisodeRecord, Verdict]]) -> dict[str, Any]:
    """Accuracy over what was judged, what was not, and how far the verdicts agree with cover-EM."""
    known = [(verdict.correct, _is_covered(record)) for record, verdict in judged if verdict.correct is not None]
    unjudged = Counter(verdict.unjudged for _, verdict in judged)
    summary: dict[str, Any] = {
        "n": len(judged),
        "judged": len(known),
        "no_answer": sum(verdict is NO_ANSWER for _, verdict in judged),
        "unjudged": {reason.value: unjudged[reason] for reason in Unjudged},
    }
    if known:
        summary["accuracy"] = round(sum(correct for correct, _ in known) / len(known), 6)
        summary["interval_95"] = list(share_interval([float(correct) for correct, _ in known]))
        summary["agreement_with_cover_em"] = _agreement(known)
    return summary


def _is_covered(record: EpisodeRecord) -> bool:
    """Whether R1-Searcher's cover-EM calls the answer right."""
    return bool(record.metrics["answer/cover_em"])


def _agreement(known: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """The four cells, the share of equal verdicts, and Cohen's kappa (1: always, 0: as by chance)."""
    cells = Counter(known)
    n = len(known)
    agree = (cells[True, True] + cells[False, False]) / n
    judge_right, cover_right = ((cells[True, True] + cells[cell]) / n for cell in ((True, False), (False, True)))
    chance = judge_right * cover_right + (1 - judge_right) * (1 - cover_right)
    return {
        "both_right": cells[True, True],
        "both_wrong": cells[False, False],
        "judge_only": cells[True, False],
        "cover_em_only": cells[False, True],
        "agreement": round(agree, 6),
        "kappa": round((agree - chance) / (1 - chance), 6) if chance < 1 else None,
    }


def cost(verdicts: Sequence[Verdict], price_in: float, price_out: float) -> dict[str, Any]:
    """The cost of verdicts; prices are per million tokens."""
    tokens_in = sum(verdict.prompt_tokens for verdict in verdicts)
    tokens_out = sum(verdict.completion_tokens for verdict in verdicts)
    return {
        "questions": len(verdicts),
        "requests": sum(verdict.requests for verdict in verdicts),
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "price": round((tokens_in * price_in + tokens_out * price_out) / 1e6, 6),
    }


def _different(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that were asked for; equal cases share one."""
    return list({id(verdict): verdict for verdict in verdicts if verdict is not NO_ANSWER}.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; bad input is one line on stderr and status 2, a full disk status 3."""
    options = _parser().parse_args(argv)
    log_to_stderr()
    return run_command("eval.judge", lambda: _run(options), resumable=True)


def _run(options: argparse.Namespace) -> None:
    file = predictions_file(options.file)
    cache_file = options.cache or verdicts_file(file)
    check_output(options.json)
    check_output(cache_file)
    records = read_predictions(file)
    scored = [record for record in records if not record.failed]
    if not scored:
        raise InputError(f"nothing to judge in {file}: every episode failed (its search, or the agent)")
    retry = RetryPolicy.of_timeout(options.timeout, options.attempts)
    config = EndpointConfig(options.endpoint, options.model, options.key_variable, options.timeout, retry)
    sampling = Sampling(options.temperature, options.max_tokens)
    with beside(cache_file):
        cache = VerdictCache(cache_file, keep_unjudged=not options.retry_unjudged)
        try:
            verdicts, asked = asyncio.run(_judge(scored, config, cache, sampling, options.concurrency))
        finally:
            cache.close()
    if said := explain_unjudged([verdict for verdict in verdicts if verdict is not NO_ANSWER]):
        print(f"eval.judge: {said}", file=sys.stderr)
    verdict_of = {id(record): verdict for record, verdict in zip(scored, verdicts, strict=True)}
    blocks = {
        name: summarize_verdicts([(record, verdict_of[id(record)]) for record in group])
        for name, group in by_decoding(scored).items()
    }
    prices = (options.price_in, options.price_out)
    costs = {"this_run": cost(asked, *prices), "all_verdicts": cost(_different(verdicts), *prices)}
    print(_table(blocks))
    print(_cost_line(costs))
    if options.json:
        about = {**failures(records), "cost": costs, "judge": _identity(config, sampling)}
        write_json(options.json, {**blocks, **about, "provenance": provenance_beside(file)})


def _identity(config: EndpointConfig, sampling: Sampling) -> dict[str, Any]:
    """Whose verdicts these are."""
    return {"endpoint": config.shown, "model": config.model, **asdict(sampling), "prompt_sha256": text_sha256(PROMPT)}


async def _judge(
    records: Sequence[EpisodeRecord],
    config: EndpointConfig,
    cache: VerdictCache,
    sampling: Sampling,
    concurrency: int,
) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts, and those that had to be asked for."""
    endpoint = OpenAIEndpoint(config)
    judge = Judge(endpoint, config.model, cache, sampling, concurrency)
    try:
        cases = [record.case for record in records if record.case is not None]
        if not all(map(judge.knows, cases)):
            await endpoint.check_listening()
        return await judge_all(records, judge), judge.asked
    finally:
        await endpoint.close()


def _table(blocks: Mapping[str, Mapping[str, Any]]) -> str:
    header = [
        "",
        "n",
        "judge % [95 % over questions]",
        "agrees with cover-EM %",
        "judge only",
        "cover-EM only",
        "unjudged",
    ]
    lines = []
    for name, block in blocks.items():
        unjudged = ", ".join(f"{count} {reason}" for reason, count in block["unjudged"].items() if count) or "0"
        cells = ["-"] * 4
        if "accuracy" in block:
            same = block["agreement_with_cover_em"]
            accuracy = percent_with_interval(block["accuracy"], block["interval_95"])
            cells = [accuracy, percent(same["agreement"])]
            cells += [str(same["judge_only"]), str(same["cover_em_only"])]
        lines.append([name, str(block["n"]), *cells, unjudged])
    return format_table(header, lines)


def _cost_line(content: Mapping[str, Mapping[str, Any]]) -> str:
    now, whole = content["this_run"], content["all_verdicts"]
    return (
        f"asked now: {now['questions']} questions in {now['requests']} requests, {now['prompt_tokens']} + "
        f"{now['completion_tokens']} tokens, {now['price']:g}; all verdicts: {whole['prompt_tokens']} + "
        f"{whole['completion_tokens']} tokens, {whole['price']:g}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="eval.judge", description=__doc__)
    parser.add_argument("file", type=Path, help="predictions.jsonl of eval.run (or its folder), or the published form")
    parser.add_argument(
        "--endpoint", required=True, metavar="URL", help="OpenAI-compatible, e.g. http://127.0.0.1:8000"
    )
    parser.add_argument("--model", required=True, help="name of the judge at the endpoint")
    help_text = "environment variable that holds the key (default: OPENAI_API_KEY, which goes to api.openai.com only)"
    parser.add_argument("--key-variable", default="", help=help_text)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write accuracy, agreement and cost to this file")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="verdicts (default: beside the predictions)")
    parser.add_argument("--retry-unjudged", action="store_true", help="ask again what got neither True nor False")
    parser.add_argument(
        "--temperature", type=float, default=Sampling.temperature, help="sampling temperature of the judge (default 0)"
    )
    parser.add_argument("--max-tokens", type=positive, default=Sampling.max_tokens, help="longest reply in tokens")
    parser.add_argument("--timeout", type=above_zero, default=60.0, metavar="S", help="longest time of an attempt in s")
    parser.add_argument("--attempts", type=positive, default=4, help="requests per question at most")
    parser.add_argument("--concurrency", type=positive, default=16, help="questions at a time")
    parser.add_argument("--price-in", type=float, default=0.0, help="price of a million prompt tokens, for the cost")
    parser.add_argument("--price-out", type=float, default=0.0, help="price of a million completion tokens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
