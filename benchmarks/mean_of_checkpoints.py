"""Average the weights of checkpoints: `python -m benchmarks.mean_of_checkpoints OUT A B ...`.

Runs that start from one model and differ by their seed end near each other, and the mean of their weights often does
better than each (Wortsman et al., 2022, "Model soups"). The statistics of norms are averaged as well: taken anew from
training clips they made the class loss of such clips larger, 0.629 and not 0.624.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from yowo_deploy.errors import InputError
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yowo_training.finetune import has_folded_norms
from yowo_training.models.ema import mixed


def mean_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of the weights, with the spec of the first.

    Raises:
        InputError: they are of different networks, or the norms of some are folded.
    """
    first, *others = checkpoints
    if any((other.model.config, other.spec.labels) != (first.model.config, first.spec.labels) for other in others):
        raise InputError("the checkpoints are of different networks, expected runs of one recipe on one data set")
    if any(has_folded_norms(each.model) != has_folded_norms(first.model) for each in others):
        raise InputError("some checkpoints were made of ONNX files, whose norms are folded: expected those of runs")
    model = first.model
    for number, other in enumerate(others, start=2):
        model = mixed(model, other.model.state_dict(), 1 / number)
    return Checkpoint(model, first.spec)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="checkpoint to write, .pt or .safetensors")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    given = parser.parse_args()
    mean = mean_of([load_checkpoint(path) for path in given.checkpoints])
    save_checkpoint(given.output, mean.model, mean.spec, {})


if __name__ == "__main__":
    main()
