"""Figures, table and chart of the rollout benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.text_table import format_table

BASELINES = ("lockstep", "lockstep_cached", "cut")


@dataclass(frozen=True)
class Pass:
    """One way of playing all episodes once."""

    way: str
    latency: str
    seconds: float
    sampled: int
    """Tokens that the engine sampled, those of cut turns included."""
    prompt: int
    cached: int
    again: int
    request_seconds: float
    slot_seconds: float
    waited: float
    """Seconds of retrieval, all episodes together."""
    our_seconds: float
    """Processor time of our own coroutines in the event loop, without the engine's and the retriever's."""


def summarize(passes: Sequence[Sequence[Pass]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Medians and ranges over the repeats; ratios are taken within a repeat, before the median."""
    repeats = [{(each.way, each.latency): each for each in played} for played in passes]
    ours = [key for key in repeats[0] if key[0] == "ours"]

    def of_limit(latency: str) -> Callable[[Mapping[Any, Pass]], float]:
        return lambda repeat: repeat["limit", "0ms"].seconds / repeat["ours", latency].seconds

    def to(way: str) -> Callable[[Mapping[Any, Pass]], float]:
        return lambda repeat: repeat[way, "heavy_tail"].seconds / repeat["ours", "heavy_tail"].seconds

    shares = {latency: _spread(repeats, of_limit(latency)) for _, latency in ours}
    ratios = {way: _spread(repeats, to(way)) for way in BASELINES}
    first = repeats[0]["ours", "0ms"]
    return {
        "share_of_limit": {latency: spread["median"] for latency, spread in shares.items()},
        "share_of_limit_range": {latency: spread["range"] for latency, spread in shares.items()},
        **{f"ratio_to_{way}": spread["median"] for way, spread in ratios.items()},
        **{f"ratio_to_{way}_range": spread["range"] for way, spread in ratios.items()},
        "prefilled_again": max(repeat["ours", "0ms"].again / repeat["ours", "0ms"].prompt for repeat in repeats),
        "prefix_hit_rate": first.cached / first.prompt,
        "our_share": _spread(repeats, lambda repeat: repeat["ours", "0ms"].our_seconds / repeat["ours", "0ms"].seconds),
        "ways": {f"{way} {latency}": _way(repeats, (way, latency), settings) for way, latency in repeats[0]},
        "settings": dict(settings),
    }


def _spread(repeats: Sequence[Any], value: Callable[[Any], float]) -> dict[str, Any]:
    values = sorted(value(repeat) for repeat in repeats)
    return {"median": statistics.median(values), "range": [values[0], values[-1]]}


def _way(repeats: Sequence[Any], key: tuple[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    played: list[Pass] = [repeat[key] for repeat in repeats]
    middle = sorted(played, key=lambda each: each.seconds)[len(played) // 2]
    return {
        "seconds": middle.seconds,
        "seconds_range": [min(each.seconds for each in played), max(each.seconds for each in played)],
        "sampled_tokens_per_second": middle.sampled / middle.seconds,
        "engine_occupancy": middle.slot_seconds / (middle.seconds * settings["slots"]),
        "prompt_tokens": middle.prompt,
        "prefilled_again_tokens": middle.again,
        "retrieval_share_of_episode_time": middle.waited / (middle.waited + middle.request_seconds),
    }


def print_report(result: Mapping[str, Any]) -> None:
    """The table and the ratios."""
    header = ["way of playing", "seconds", "tokens/s", "occupancy %", "prefilled again", "waiting for search %"]
    rows = [
        [
            name,
            f"{way['seconds']:.2f}",
            f"{way['sampled_tokens_per_second']:.0f}",
            f"{100 * way['engine_occupancy']:.0f}",
            str(way["prefilled_again_tokens"]),
            f"{100 * way['retrieval_share_of_episode_time']:.0f}",
        ]
        for name, way in result["ways"].items()
    ]
    print(format_table(header, rows))
    for latency, share in result["share_of_limit"].items():
        low, high = result["share_of_limit_range"][latency]
        print(f"share of the limit at {latency}: {share:.3f} ({low:.3f} to {high:.3f})")
    for name in BASELINES:
        low, high = result[f"ratio_to_{name}_range"]
        print(f"throughput over {name}, heavy tail: {result[f'ratio_to_{name}']:.2f} ({low:.2f} to {high:.2f})")
    low, high = result["our_share"]["range"]
    print(
        f"processor time of our own code: {100 * result['our_share']['median']:.2f} % of the wall time at 0 ms "
        f"({100 * low:.2f} to {100 * high:.2f} %)"
    )
    print(
        f"prompt tokens prefilled again in later turns: {100 * result['prefilled_again']:.1f} %; "
        f"prefix cache hits: {100 * result['prefix_hit_rate']:.1f} %"
    )


def save_chart(result: Mapping[str, Any], path: Path) -> None:
    """Seconds of each way, with the range over the repeats."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ways = result["ways"]
    figure, axes = plt.subplots(figsize=(7.5, 3.2), constrained_layout=True)
    names = list(ways)[::-1]
    middles = [ways[name]["seconds"] for name in names]
    low = [ways[name]["seconds"] - ways[name]["seconds_range"][0] for name in names]
    high = [ways[name]["seconds_range"][1] - ways[name]["seconds"] for name in names]
    colors = ["#2f6f4f" if name.startswith("ours") else "#999999" for name in names]
    axes.barh(names, middles, xerr=[low, high], color=colors, error_kw={"lw": 1})
    axes.axvline(ways["limit 0ms"]["seconds"], color="black", lw=0.8, ls=":")
    axes.set_xlabel("seconds for the same episodes (dotted: the engine's limit)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
