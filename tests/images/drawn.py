"""Pixels without a pattern."""

import numpy as np


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
