"""Galleries and queries of many kinds of numbers, from ties to the ends of float32."""

import numpy as np

VALUES = [
    "normal",
    "ties",
    "offset",
    "mixed scales",
    "constant",
    "tiny",
    "huge",
    "brink",
    "vanishing",
    "own gallery",
    "opposite",
]
# Of standard normal numbers, in float32 and in float16.
FACTORS = {"tiny": (1e-20, 1e-7), "huge": (1e20, 1e4)}


def spread(rng, noise, values):
    """Each position of its own size: squares around float32's largest number, between zeros, or its smallest ones."""
    plane = noise.shape[-2:]
    if values == "brink":
        return noise * 2.0 ** rng.integers(60, 67, plane) * (rng.random(plane) < 0.3)
    return noise * 2.0 ** rng.integers(-140, -55, plane)


def pyramid(rng, *, sizes, channels, images, values, dtype):
    """A gallery and a query, (n, c, h, w) and (c, h, w), finest level first."""

    def draw(*shape):
        noise = rng.standard_normal(shape)
        match values:
            case "ties":
                noise = rng.integers(0, 2, shape)
            case "offset":
                noise = noise + 100
            case "mixed scales":
                noise = noise * 10.0 ** rng.integers(-3, 4, shape)
            case "constant":
                noise = np.ones(shape)
            case "tiny" | "huge":
                noise = noise * FACTORS[values][dtype == np.float16]
            case "brink" | "vanishing" if dtype == np.float32:
                noise = spread(rng, noise, values)
        return noise.astype(dtype)

    gallery = [draw(images, c, *size) for c, size in zip(channels, sizes, strict=True)]
    if values == "own gallery":
        return gallery, [level[-1].copy() for level in gallery]
    if values in ("opposite", "brink"):
        return gallery, [-level[-1] for level in gallery]
    return gallery, [draw(c, *size) for c, size in zip(channels, sizes, strict=True)]
