# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The image that the Dockerfile makes."""
import os
import subprocess
import sys

from depot import SLOW
from support import Skip, heavy

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docker", "run.py")


@heavy(100, limit_s=600)
def test_image_serves(env):
    """Built with buildah, unit tests included: serves, is healthy, runs as its own user."""
    del env
    if SLOW != 1:
        raise Skip("the image is the same with any binary")
    done = subprocess.run([sys.executable, SCRIPT], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode == 77:
        raise Skip(" ".join(last))
    assert done.returncode == 0, done.stdout
