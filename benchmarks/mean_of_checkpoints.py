"""Average the weights of checkpoints: `python -m benchmarks.mean_of_checkpoints OUT A B ... --data J-HMDB-21`.

Runs that start from one model and differ by their seed end near each other, and the mean of their weights does better
than each (Wortsman et al., 2022, "Model soups"). With `--data` its norms take their statistics anew, from training
clips of the recipe `yowo-lite`: those of the runs are of other weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from yowo_deploy.datasets import open_dataset, split_present
from yowo_deploy.errors import InputError
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yowo_training.data.clip_sampler import FrameCache, batches
from yowo_training.models.ema import mixed
from yowo_training.recipes import find_recipe

BATCHES = 80


def mean_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of the weights, with the spec of the first.

    Raises:
        InputError: they are of different networks.
    """
    first, *others = checkpoints
    if any((other.model.config, other.spec.labels) != (first.model.config, first.spec.labels) for other in others):
        raise InputError("the checkpoints are of different networks, expected runs of one recipe on one data set")
    model = first.model
    for number, other in enumerate(others, start=2):
        model = mixed(model, other.model.state_dict(), 1 / number)
    return Checkpoint(model, first.spec)


def take_statistics(checkpoint: Checkpoint, clips: Iterable[Tensor]) -> None:
    """Replace the statistics of the norms by those of (B, 3, T, H, W) clips."""
    with torch.no_grad():
        update_bn(clips, checkpoint.model)
    checkpoint.model.eval()


def training_clips(checkpoint: Checkpoint, data: Path, count: int) -> Iterable[Tensor]:
    """That many batches of training clips of J-HMDB-21, with the crops and colours of `yowo-lite`."""
    videos, _ = split_present(open_dataset("jhmdb21", data).videos("train"))
    made = batches(videos, checkpoint.spec, find_recipe("yowo-lite"), seed=0, cache=FrameCache(0))
    return (batch.clips for batch in islice(made, count))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="checkpoint to write, .pt or .safetensors")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="folder of J-HMDB-21")
    given = parser.parse_args()
    mean = mean_of([load_checkpoint(path) for path in given.checkpoints])
    if given.data:
        take_statistics(mean, training_clips(mean, given.data, BATCHES))
    save_checkpoint(given.output, mean.model, mean.spec, {})


if __name__ == "__main__":
    main()
