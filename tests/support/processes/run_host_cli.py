"""A program, not a test: runs OpenRLHF's own command-line module up to the first statement of its `train`.

Reads a JSON list of argument lists on stdin; writes, for each, the flags of the module's parser and either
the arguments that `train` was called with or what was raised before.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys

from r1_searcher.host import cpu
from r1_searcher.host.flags import TRAINER_MODULE


class ReachedTrain(BaseException):
    pass


def describe(parser: argparse.ArgumentParser) -> list[list[object]]:
    return [
        [action.option_strings, action.dest, repr(action.default), repr(action.nargs), repr(action.choices),
         getattr(action.type, "__name__", None), type(action).__name__]
        for action in parser._actions
    ]  # fmt: skip


def main() -> None:
    cpu.install()
    import ray

    parse_args = argparse.ArgumentParser.parse_args
    result: dict[str, object] = {}

    def recording(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> argparse.Namespace:
        if "--train.agent_func_path" in self._option_string_actions:
            result["parser"] = describe(self)
        return parse_args(self, *args, **kwargs)  # type: ignore[arg-type]

    def stop() -> bool:
        result["args"] = repr(sys._getframe(1).f_locals["args"])
        raise ReachedTrain

    argparse.ArgumentParser.parse_args = recording  # type: ignore[assignment,method-assign]
    ray.is_initialized = stop
    results = []
    for argv in json.load(sys.stdin):
        result = {}
        sys.argv = [TRAINER_MODULE, *argv]
        try:
            runpy.run_module(TRAINER_MODULE, run_name="__main__", alter_sys=True)
        except ReachedTrain:
            pass
        except (Exception, SystemExit) as error:
            result["error"] = f"{type(error).__name__}: {error}"
        results.append(result)
    print("RESULT " + json.dumps(results))


main()
