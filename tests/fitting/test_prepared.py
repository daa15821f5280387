import numpy as np
import pytest
from PIL import Image
from spadeline.engine.errors import InputError
from spadeline.engine.extract.extractor import Extractor
from spadeline.engine.fitting import prepared
from spadeline.engine.fitting.prepared import PreparedImage, extract, prepare_images, with_free_names
from spadeline.engine.folders.listing import named_images
from spadeline.engine.recipe.records import ImageRecord

from ..conftest import SIZE, part


@pytest.fixture
def folder(tmp_path):
    for name, seed in (("a.png", 1), ("a.bmp", 1), ("b.jpg", 2)):
        Image.fromarray(part(seed)[0]).save(tmp_path / name)
    Image.fromarray(part(1)[0][..., 0]).save(tmp_path / "gray.png")
    return tmp_path


def test_images_are_known_by_their_pixels(folder):
    seen = []
    images = prepare_images(named_images(folder), (SIZE, SIZE), "whole", lambda *progress: seen.append(progress))
    by_name = {image.record.name: image for image in images}
    assert by_name["a.png"].record.pixels_sha256 == by_name["a.bmp"].record.pixels_sha256
    assert len({image.record.pixels_sha256 for image in images}) == 3
    assert len({image.record.sha256 for image in images}) == 4
    assert {image.prepared.shape for image in images} == {(SIZE, SIZE, 3)}
    assert seen[-1] == ("read", 4, 4)


def test_few_images_are_decoded_once_and_many_need_no_more_memory(folder, extractor_path, monkeypatch):
    decoded = []
    read_picture = prepared.read_picture
    monkeypatch.setattr(prepared, "read_picture", lambda path: decoded.append(path.name) or read_picture(path))
    opened = Extractor(extractor_path, device="cpu", threads=1)
    features = [list(extract(prepare_images(named_images(folder), opened.input_size, "whole"), opened, "whole"))]
    assert sorted(decoded) == ["a.bmp", "a.png", "b.jpg", "gray.png"]
    monkeypatch.setattr(prepared, "KEPT_BYTES", 2 * SIZE * SIZE * 3)
    images = prepare_images(named_images(folder), opened.input_size, "whole")
    assert [image.prepared is None for image in images] == [False, False, True, True]
    features.append(list(extract(images, opened, "whole")))
    for (record, kept), (other, again) in zip(*features, strict=True):
        assert record == other
        np.testing.assert_array_equal(kept.embedding, again.embedding)


def test_a_file_that_changes_between_two_readings_is_refused(folder, extractor_path, monkeypatch):
    monkeypatch.setattr(prepared, "KEPT_BYTES", 0)
    opened = Extractor(extractor_path, device="cpu", threads=1)
    images = prepare_images(named_images(folder), opened.input_size, "whole")
    Image.fromarray(part(7)[0]).save(folder / "b.jpg")
    with pytest.raises(
        InputError, match=r"b\.jpg: expected the image that was read before, got another: it was changed$"
    ):
        list(extract(images, opened, "whole"))


def test_names_that_are_free():
    held = [ImageRecord(name) for name in ("a.png", "a-2.png", "sub/b.tar.png", "c")]
    images = [
        PreparedImage(ImageRecord(name), None, None) for name in ("a.png", "sub/b.tar.png", "c", "new.png", "a-3.png")
    ]
    renamed = with_free_names(images, held, rename=True)
    assert [image.record.name for image in renamed] == ["a-4.png", "sub/b.tar-2.png", "c-2", "new.png", "a-3.png"]
    assert with_free_names(images[3:], held, rename=False)[0].record.name == "new.png"
