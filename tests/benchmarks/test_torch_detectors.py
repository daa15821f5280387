"""SPADE in torch against the reference, and backbones in torch against ONNX Runtime's outputs."""

import numpy as np
import pytest
from spadeline.engine.match import reference

from .scripts import needs_torch


def test_torchs_spade_is_the_reference(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from detectors_parts import by_torch

    monkeypatch.setattr(by_torch, "BLOCK", 7)  # several blocks, the last of another length
    random = np.random.default_rng(0)
    levels = [random.random((9, 5, 8, 12)), random.random((9, 7, 4, 6)), random.random((9, 3, 2, 3))]
    query, gallery = [level[0] for level in levels], [level[1:] for level in levels]
    grids = [by_torch.concatenate([torch.from_numpy(level[i : i + 1]) for level in levels]) for i in range(9)]
    ids = [1, 4, 7]
    expected, _ = reference.match(query, gallery, ids)
    found = by_torch.match(grids[0].flatten(0, 1), torch.stack(grids[1:])[ids].flatten(0, 2))
    np.testing.assert_allclose(found.numpy().reshape(8, 12), expected, rtol=1e-9)


def test_torchs_retrieval_is_the_reference():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from detectors_parts import by_torch

    embeddings = np.random.default_rng(0).random((6, 4))
    ids, score = by_torch.retrieve(
        torch.from_numpy(embeddings[:1]), torch.from_numpy(embeddings[1:]), images=50, k_score=2
    )
    assert score == pytest.approx(reference.image_score(embeddings[0], embeddings[1:], 2), rel=1e-9)
    assert sorted(ids.tolist()) == [0, 1, 2, 3, 4]
    fewer, of_two = by_torch.retrieve(
        torch.from_numpy(embeddings[:1]), torch.from_numpy(embeddings[1:]), images=1, k_score=2
    )
    assert (fewer.tolist(), of_two) == (ids[:1].tolist(), score)


def runtimes_outputs(path, image):
    from spadeline.engine.extract.extractor import Extractor

    extractor = Extractor(path, device="cpu", threads=1)
    found = extractor.extract(image[None])
    return dict(zip(extractor.level_names, found.levels, strict=True)) | {"embedding": found.embedding}


def backbone_of(path, folder):
    from detectors_parts.torch_backbone import load_backbone

    backbone = load_backbone(path)
    size = (224, 224) if path.stem == "resnet50_thin" else (64, 64)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    outputs = runtimes_outputs(path, image)
    np.savez(folder / "probe.npz", image=image, **outputs)
    return backbone, outputs


def test_a_backbone_in_torch_is_the_extractor(extractor_path, tmp_path):
    needs_torch()
    backbone, outputs = backbone_of(extractor_path, tmp_path)
    backbone.check(tmp_path / "probe.npz")
    outputs["layer2"][0, 3, 2, 1] *= 1.5
    with np.load(tmp_path / "probe.npz") as probe:
        np.savez(tmp_path / "wrong.npz", image=probe["image"], **outputs)
    with pytest.raises(ValueError, match="layer2 of the backbone in torch differs from ONNX Runtime's by"):
        backbone.check(tmp_path / "wrong.npz")


def test_a_backbone_of_averaged_levels(extractor_path, tmp_path):
    needs_torch()
    from spadeline.export import average_extractor

    average_extractor(tmp_path / "averaged.onnx", extractor_path, neighbourhood=3)
    backbone, _ = backbone_of(tmp_path / "averaged.onnx", tmp_path)
    backbone.check(tmp_path / "probe.npz")


def test_a_backbone_of_swapped_channels_and_strided_1x1_convolutions(hazelnut, tmp_path):
    needs_torch()
    backbone, _ = backbone_of(hazelnut[1], tmp_path)
    backbone.check(tmp_path / "probe.npz")


def changed(path, folder, change):
    import onnx

    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"


def test_an_operator_that_is_not_known_is_named(extractor_path, tmp_path):
    needs_torch()
    from detectors_parts.torch_backbone import load_backbone

    def sigmoid(graph):
        next(node for node in graph.node if node.op_type == "Relu").op_type = "Sigmoid"

    with pytest.raises(ValueError, match="an operator that isn't known here, Sigmoid"):
        load_backbone(changed(extractor_path, tmp_path, sigmoid))


def test_a_normalisation_of_another_kind_is_refused(extractor_path, tmp_path):
    needs_torch()
    from detectors_parts.torch_backbone import load_backbone

    def square(graph):
        node = next(node for node in graph.node if node.op_type == "Mul")
        node.input[1] = node.input[0]

    with pytest.raises(ValueError, match="normalisation isn't one factor and one offset a channel"):
        load_backbone(changed(extractor_path, tmp_path, square))
