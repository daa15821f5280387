"""Trees of empty files, and what a data set is found to be in them."""

from __future__ import annotations

import pytest
from spadeline.engine.errors import InputError
from spadeline.engine.folders.dataset import find_dataset


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root, *names):
    """Return label, kind and masks of each test image by its path. All paths are relative to the root."""
    touch(root, *names)
    dataset = find_dataset(root)
    return {
        image.path.relative_to(root).as_posix(): (
            "abnormal" if image.label else "normal",
            image.kind,
            *(path.relative_to(root).as_posix() for path in image.mask_paths),
        )
        for image in dataset.test
    }


def refused(root, *names):
    touch(root, *names)
    with pytest.raises(InputError) as caught:
        find_dataset(root)
    return str(caught.value).replace(str(root), "ROOT")
