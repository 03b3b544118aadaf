"""Parameters and multiply-adds of every 3-D backbone beside the paper's Table 5: `python -m benchmarks.model_cost`."""

from __future__ import annotations

import argparse

from yowo_training.models.flops import cost
from yowo_training.models.yowo import Yowo, YowoConfig

LENGTHS = (8, 16, 32)
OUTPUTS = 5 * (5 + 24)
SIZE = 224
# "FLOPs" of the 3-D branch in the paper's Table 5, which are multiply-adds (OFFICIAL_YOWO, "Network").
PAPER = {
    "resnext101": 38.6,
    "resnet101": 54.7,
    "resnet50": 39.3,
    "resnet18": 33.3,
    "shufflenet_2x": 2.2,
    "shufflenetv2_2x": 1.8,
    "mobilenet_2x": 2.6,
    "mobilenetv2_1x": 2.2,
}


def main() -> None:
    """Print one Markdown table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    lengths = " | ".join(f"3-D GMAC T={length}" for length in LENGTHS)
    print(f"| 3-D backbone | 3-D parameters M | {lengths} | paper, T=16 | whole model M | whole GMAC T=16 |")
    print("|---|" + "---:|" * (len(LENGTHS) + 4))
    for name, published in PAPER.items():
        model = Yowo(YowoConfig("darknet19", name, OUTPUTS))
        costs = {length: cost(model, (3, length, SIZE, SIZE)) for length in LENGTHS}
        branch = " | ".join(f"{costs[length]['backbone_3d'].macs / 1e9:.2f}" for length in LENGTHS)
        total = costs[16]["total"]
        parameters = costs[16]["backbone_3d"].parameters / 1e6
        whole = f"{total.parameters / 1e6:.1f} | {total.macs / 1e9:.2f}"
        print(f"| {name} | {parameters:.1f} | {branch} | {published} | {whole} |")


if __name__ == "__main__":
    main()
