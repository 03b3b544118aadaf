"""`torchrun --nproc-per-node N -m yowo_training jhmdb21 ...`: run `yowo-deploy train` in several processes."""

import sys

from yowo_deploy.cli import main

sys.argv.insert(1, "train")
main()
