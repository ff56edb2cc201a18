"""A published FAISS index, its corpus and its encoder -> a saved index for `python -m retriever.server --index`.

    python -m data_prep.corpus --format wiki18 --input wiki-18.jsonl --out stores/wiki18
    python -m retriever.adopt --faiss e5_Flat.index --corpus stores/wiki18 --encoder e5-base-v2 --out indexes/wiki18
    python -m retriever.server --index indexes/wiki18

Checked before anything is written: the number of vectors and passages, the vectors' length, the metric, and that a
sample of passages, encoded again, find themselves. The file is linked, not copied. Exit statuses: 0 done; 2 bad input,
with one line on stderr.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.cli import TIMED, OneLineParser, expected, log_to_stderr, positive, run_command
from foundation.errors import InputError
from foundation.owned_folder import held
from retriever.build.adoption import Adopted, adopt, examine
from retriever.index.corpus import doubts
from retriever.index.encoder import HASHING, add_encoder_options, load_encoder
from retriever.index.faiss_vectors import FaissVectors, SearchSettings
from retriever.index.manifest import MANIFEST_NAME
from retriever.index.sentence_encoder import DTYPES
from retriever.index.store import open_corpus

logger = logging.getLogger(__name__)

_SETTINGS = SearchSettings()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    options = _parser().parse_args(argv)
    log_to_stderr(TIMED)
    return run_command("retriever.adopt", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    with expected(ValueError, OSError, ImportError):
        if not options.faiss.is_file():
            raise InputError(f"--faiss {options.faiss}: no such file (join its parts first: cat part_* > FILE)")
        with held(options.out):
            found, count = _adopt(options)
    logger.info(
        "%s: %s index of %d passages; %.0f %% of %d sampled ones find themselves",
        options.out,
        found.vectors.factory,
        count,
        100 * found.found,
        found.sampled,
    )


def _adopt(options: argparse.Namespace) -> tuple[Adopted, int]:
    """What was found out, and the number of passages."""
    if (options.out / MANIFEST_NAME).exists():
        raise InputError(f"--out {options.out} holds a saved index already; choose another folder, or remove it")
    settings = SearchSettings(options.nprobe, options.ef_search)
    passages = open_corpus(options.corpus)
    for doubt in () if options.no_corpus_warnings else doubts(passages):
        logger.warning("%s", doubt)
    encoder = load_encoder(
        options.encoder,
        options.encoder_path,
        device=options.device,
        dtype=options.dtype,
        dim=FaissVectors.adopt(options.faiss).dim if options.encoder == HASHING else None,
        trust_remote_code=options.trust_remote_code,
    )
    found = examine(options.faiss, passages, encoder, settings, sample=options.sample)
    adopt(options.out, options.faiss, passages, encoder, found, settings)
    return found, len(passages)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="retriever.adopt", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--faiss", type=Path, required=True, metavar="FILE", help="the published index, such as e5_Flat.index")
    add(
        "--corpus", type=Path, required=True, help="its corpus: a passage store (python -m data_prep.corpus), or a file"
    )
    add("--encoder", required=True, metavar="NAME", help="its encoder: a name in retriever.index.encoder, or any other")
    add_encoder_options(add)
    add("--dtype", choices=DTYPES, default="auto", help="number format of the encoder's weights (%(default)s)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the saved index")
    add("--sample", type=positive, default=64, metavar="N", help="passages that are encoded again (%(default)s)")
    add("--nprobe", type=positive, default=_SETTINGS.nprobe, help="IVF: lists searched for a query (%(default)s)")
    add("--ef-search", type=positive, default=_SETTINGS.ef_search, help="HNSW: candidates kept (%(default)s)")
    add("--no-corpus-warnings", action="store_true", help="no warnings of missing titles or odd first lines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
