"""Tune a network: the same as `chameleon-ray tune`; resnet18 if nothing is said.

`ray submit` copies this file alone to the cluster, so all it does is call the installed package.
"""

import sys

from chameleon_ray.cli import main

if __name__ == "__main__":
    main(["tune", *(sys.argv[1:] or ["resnet18"])])
