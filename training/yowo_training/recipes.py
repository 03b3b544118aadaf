"""Training recipes by name: network, optimizer, augmentation and loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_type_hints

from yowo_deploy.datasets.base import Dataset
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.spec import AttentionSign, ModelSpec, Precision, typed
from yowo_training.loss import LossWeights
from yowo_training.models.backbones.efficientnet import MEAN, STD
from yowo_training.models.yowo import Fusion, YowoConfig

_LARGEST = 1e9
_SHARES = "momentum ema start_share jitter colour mosaic late_starts paste negatives first_3d heard_3d"
_RANGES: dict[str, tuple[float, float]] = {
    "batch": (1, 65_536),
    "accumulate": (1, 65_536),
    "shrink_3d": (1, 1024),
    "frozen_blocks": (0, 1024),
    "epochs": (1, _LARGEST),
    "zoom": (0.01, 1),
    **dict.fromkeys(("learning_rate", "pretrained_rate", "weight_decay", "auxiliary"), (0, _LARGEST)),
    **dict.fromkeys(_SHARES.split(), (0, 1)),
}


@dataclass(frozen=True)
class Recipe:
    """All parameters of a training run except data and time.

    Its fields identify a stopped run (state.pt): a renamed field makes such runs impossible to resume.

    Attributes:
        name: of the recipe; what stands before a "+" is the name of the architecture.
        backbone_2d, backbone_3d, backbone_extra, width, shrink_3d, fusion: see `YowoConfig`.
        clip_length, frame_stride, input_size, mean, std: see `ModelSpec`.
        imagenet: start every branch that has ImageNet weights from them.
        attention_sign: see `GramAttention`.
        batch: clips per step.
        optimizer: "adamw", or "sgd" with `momentum` as the paper has it.
        learning_rate: the peak; it rises over the first 5 % and then falls as a cosine.
        halve_at: steps of the optimizer at which the rate is halved instead, as in the paper.
        accumulate: batches per step of the optimizer.
        precision: of the forward pass, by autocast.
        pretrained: branches that start from ImageNet weights, where `imagenet` is set.
        pretrained_rate: factor on the rate of pretrained weights.
        start_share: share of the weights that a fine-tuning began with in those that are saved; see `Run.result`.
        weight_decay: of weights, not of norms and biases.
        ema: decay of the moving average of weights, which is what is saved.
        jitter: each side of the crop moves by up to this fraction of the frame.
        colour: brightness, and each colour, changes by up to this fraction.
        mosaic: fraction of clips made of two to four videos side by side: several people, several actions, smaller.
        zoom: half of the crops have sides shrunk by up to this factor.
        late_starts: fraction of clips whose first frames are replaced by a later one, as at the start of a video.
        paste: fraction of clips with the actor of another clip pasted over all frames; needs silhouettes.
        backwards: actions that are actions when played backwards too, and which: half of their clips are.
        train_strides: frame strides to draw from in training.
        negatives: fraction of clips with an empty key frame, for videos that have such frames.
        frozen_blocks: number of blocks of a pretrained 2-D branch that are not trained.
        frozen_3d: the 3-D branch is not trained (paper, section 4.2, for J-HMDB-21).
        first_3d: fraction of the run in which only the 3-D branch is trained, to classify clips (see `Supervised`), so
            that its features are useful when the fusion starts; needs `auxiliary`.
        heard_3d: probability that the fusion gets a clip's 3-D features after that; else zeros. Below 1 the output
            depends on both branches.
        auxiliary: weight of each branch's own classification loss over the actions of the clip.
        loss: weights of the loss parts.
        epochs: length of a run without a time limit; an epoch has one clip of every video.
    """

    name: str
    backbone_2d: str | None
    backbone_3d: str | None
    width: int = 256
    shrink_3d: int = 1
    fusion: Fusion = "cfam"
    clip_length: int = 8
    frame_stride: int = 1
    input_size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    imagenet: bool = False
    attention_sign: AttentionSign = "paper"
    batch: int = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    halve_at: tuple[int, ...] = ()
    accumulate: int = 1
    precision: Precision = "fp32"
    pretrained: tuple[str, ...] = ("backbone_2d",)
    pretrained_rate: float = 0.5
    weight_decay: float = 0.02
    ema: float = 0.998
    start_share: float = 0.0
    jitter: float = 0.2
    colour: float = 0.3
    mosaic: float = 0.0
    zoom: float = 1.0
    late_starts: float = 0.0
    paste: float = 0.0
    backwards: tuple[tuple[str, str], ...] = ()
    train_strides: tuple[int, ...] = (1, 2)
    negatives: float = 0.0
    frozen_blocks: int = 0
    frozen_3d: bool = False
    first_3d: float = 0.0
    heard_3d: float = 1.0
    auxiliary: float = 0.0
    loss: LossWeights = field(default_factory=LossWeights)
    epochs: int = 36
    backbone_extra: str | None = None

    def __post_init__(self) -> None:
        if self.first_3d > 0 and (self.auxiliary <= 0 or self.backbone_3d is None):
            raise InputError(f"first_3d is {self.first_3d}: that needs a 3-D branch and auxiliary above 0")
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:  # NaN is in no range
                raise InputError(f"{self.name}: {name} is {getattr(self, name)}, expected {least:g} to {most:g}")
        for name, value in vars(self.loss).items():
            if not 0 <= value <= _LARGEST:
                raise InputError(f"{self.name}: weight {name} of the loss is {value}, expected 0 to {_LARGEST:g}")
        if not self.train_strides or min(self.train_strides) < 1:
            raise InputError(f"{self.name}: train_strides are {self.train_strides}, expected strides from 1 on")

    def spec(self, dataset: Dataset) -> ModelSpec:
        """The spec of a model of this recipe for the classes and anchors of a data set."""
        spec = ModelSpec(
            labels=dataset.labels,
            anchors=dataset.anchors,
            clip_length=self.clip_length,
            frame_stride=self.frame_stride,
            input_size=self.input_size,
            mean=self.mean,
            std=self.std,
            attention_sign=self.attention_sign,
            name=self.name.partition("+")[0],
            confidence_threshold=0.15,
            keep_threshold=0.35,
            tube_decay=0.97,
            event_on=0.35,
            event_off=0.2,
        )
        if dataset.rules == "ava":
            spec = spec.replace(
                class_activation="softmax+sigmoid", softmax_classes=dataset.exclusive, nms_threshold=0.5
            )
        (columns, rows), (of_columns, of_rows) = spec.grid_size, dataset.anchor_grid
        anchors = tuple((w * (columns / of_columns), h * (rows / of_rows)) for w, h in dataset.anchors)
        return spec.replace(anchors=anchors)

    def config(self, spec: ModelSpec) -> YowoConfig:
        """The network configuration for that spec."""
        return YowoConfig(
            self.backbone_2d,
            self.backbone_3d,
            spec.output_channels,
            self.width,
            self.attention_sign,
            self.shrink_3d,
            self.fusion,
            self.backbone_extra,
        )


# yowo-deploy train jhmdb21 --data DIR --recipe yowo-lite --minutes 76 --held-out 0 --cache-gb 5 -o runs/lite
# 3,150 steps on two shared CPU cores: frame-mAP@0.5 51.9, recall 93.2, class accuracy 59.4, video-mAP@0.5 62.5 on all
# 9,139 frames of test split 1, with 8 pairs of frames (`motion_lite0`). An earlier one without flow reached 38.9 in 40
# minutes.
_LITE = Recipe(
    "yowo-lite",
    "efficientnet_lite0",
    "motion_lite0_p15",
    shrink_3d=2,
    clip_length=16,
    mean=MEAN,
    std=STD,
    imagenet=True,
    pretrained=("backbone_2d", "backbone_3d"),
    weight_decay=0.05,
    train_strides=(1,),
    frozen_blocks=5,
    first_3d=0.28,
    heard_3d=0.85,
    auxiliary=0.5,
    # With focal loss and hard labels: frame-mAP 33.2 instead of 37.5, after 6.5 minutes with the 2-D branch only, on a
    # held-out quarter of the training recordings.
    loss=LossWeights(focal_gamma=0.0, label_smoothing=0.1),
)

# yowo-deploy train jhmdb21 --data DIR --recipe yowo-lite+people --start runs/lite/best.pt --people people.json
#     --minutes 65 --held-out 0.06 -o runs/people
# 951 steps on one core: frame-mAP@0.5 53.7 (57.6 along tubes), recall 95.1, class accuracy 59.0, video-mAP@0.5 63.9.
# With a start share of 0: 49.0 (52.6 along tubes), recall 94.8, class accuracy 56.2.
_LITE_PEOPLE = replace(
    _LITE,
    name="yowo-lite+people",
    learning_rate=5e-4,
    mosaic=0.5,
    zoom=0.6,
    late_starts=0.15,
    ema=0.995,
    start_share=0.5,
    frozen_3d=True,
)

# yowo-deploy train jhmdb21 --data DIR --recipe yowo-lite+actors --start runs/people/last.pt --people people.json
#     --silhouettes silhouettes.npz --minutes 100 --held-out 0 --seed 1 -o runs/actors1
# Two seeds, 1,321 and 1,334 steps on a core each, and the mean of both is the default model: frame-mAP@0.5 58.5 (61.4
# along tubes), recall 96.0, class accuracy 62.2, video-mAP@0.5 69.4.
# To stand is to sit down backwards; of the other actions of J-HMDB-21 these four look the same.
_BACKWARDS = (("sit", "stand"), ("stand", "sit"), *((name, name) for name in ("brush_hair", "clap", "pullup", "wave")))
_LITE_ACTORS = replace(
    _LITE_PEOPLE, name="yowo-lite+actors", mosaic=0.3, paste=0.5, backwards=_BACKWARDS, frozen_3d=False
)

# yowo-deploy train jhmdb21 --data DIR --recipe yowo-lite+boxes --start runs/actors.pt --people people.json
#     --silhouettes silhouettes.npz --minutes 54 --held-out 0 --seed 4 -o runs/boxes4
# 1,225 and 1,057 steps on a core each, and half of the mean of both with half of the start: frame-mAP@0.5 59.8 (62.8
# along tubes), recall 97.3, class accuracy 62.2, video-mAP@0.5 68.5. With a start share of a third: 57.5 (61.0).
# The box's part of the loss was a twentieth of the class's (0.2 of 4.2), and boxes of people of other cameras were too
# small: of 636, 66 % were found at an IoU of 0.5 and 94 % at 0.3.
_LITE_BOXES = replace(_LITE_ACTORS, name="yowo-lite+boxes", loss=replace(_LITE.loss, coordinates=6.0))

# Three branches: colour of the key frame, colour of the clip, and its flow (paper, section 4.3). Not trained at length.
_FLOW = replace(
    _LITE,
    name="yowo-flow",
    backbone_3d="tiny3d_s16",
    backbone_extra="motion_lite0",
    pretrained=("backbone_2d", "backbone_extra"),
)

# yowo-deploy demo: 3,000 steps with two threads, 3.3 minutes with the 2-D branch alone after it, on two cores.
# Frame-mAP@0.5 96.6 on the 30 test videos, 60.6 for the 2-D branch after half of the epochs. Other seeds and rounding
# gave 94.6 and 94.9 against 60.8 and 59.8, and the 2-D branch 64.7 after all of the epochs.
_TINY = Recipe(
    "yowo-tiny",
    "tiny2d",
    "tiny3d_s16",
    width=96,
    shrink_3d=2,
    input_size=(128, 96),
    batch=8,
    learning_rate=2e-3,
    weight_decay=0.01,
    ema=0.99,
    jitter=0.0,
    train_strides=(1,),
    # At the official weight of 1, positions within a cell are hardly learnt in so few steps.
    loss=LossWeights(coordinates=5.0, focal_gamma=0.0, label_smoothing=0.1),
    epochs=100,
)

_TINY_FLOW = replace(_TINY, name="yowo-tiny-flow", backbone_extra="tiny3d_s16")

# The paper's recipes (section 4.2), not trained by this project: they need GPUs, --weights-2d and --weights-3d.
# The paper's rate is for sums over a batch of 8, ours for means; its epochs see every frame, ours a clip per video.
_PAPER = Recipe(
    "yowo",
    "darknet19",
    "resnext101",
    width=1024,
    batch=8,
    optimizer="sgd",
    learning_rate=8 * 1e-4,
    halve_at=(30_000, 40_000, 50_000, 60_000),
    pretrained_rate=1.0,
    weight_decay=5e-4,
    epochs=5 * 170,
)
_TABLE_2 = (
    replace(_PAPER, name="yowo-2d", backbone_3d=None, fusion="concat"),
    replace(_PAPER, name="yowo-3d", backbone_2d=None, fusion="concat"),
    replace(_PAPER, name="yowo-concat", fusion="concat"),
    _PAPER,
)
_BY_DATASET = (
    # torchrun --nproc-per-node 4 -m yowo_training ucf24 --data DIR --recipe yowo-ucf24 --weights-3d FILE -o runs/ucf24
    replace(_PAPER, name="yowo-ucf24", clip_length=16),
    replace(_PAPER, name="yowo-jhmdb21", clip_length=16, frozen_3d=True, epochs=10 * 34),
    replace(
        _PAPER,
        name="yowo-ava",
        clip_length=16,
        mean=(0.45,) * 3,
        std=(0.225,) * 3,
        weight_decay=1e-4,
        loss=LossWeights(focal_gamma=0.5),
        epochs=10 * 897,
    ),
)

_ALL = (_LITE, _LITE_PEOPLE, _LITE_ACTORS, _LITE_BOXES, _FLOW, _TINY, _TINY_FLOW, *_TABLE_2, *_BY_DATASET)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def fields_of(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe as args.json has them; options younger than some runs stand there where they are on."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if not recipe.loss.both_terms:
        del fields["loss"]["both_terms"]
    for name in ("paste", "backwards"):
        if not fields[name]:
            del fields[name]
    if recipe.backbone_extra is None:
        del fields["backbone_extra"]
    return fields


def recipe_of(fields: Mapping[str, Any]) -> Recipe:
    """The recipe of these fields, as args.json has them.

    Raises:
        InputError: they are not those of a recipe.
    """
    with foreign("not the fields of a recipe, expected those of args.json"):
        loss = LossWeights(**_typed(LossWeights, fields["loss"]))
        return Recipe(**_typed(Recipe, {**fields, "loss": loss}))


def _typed(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by the types that a dataclass declares; a name that it lacks is left for its constructor to refuse."""
    hints = get_type_hints(kind)
    return {name: typed(name, value, hints.get(name, type(value)), "recipe") for name, value in fields.items()}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is not known, expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
