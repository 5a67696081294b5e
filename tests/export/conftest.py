"""Small calibrated models, exported once for all tests of the package."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from export.onnx_export import export_qdq
from export.settings import ExportSettings
from tests.export.small_models import Served, calibrated_of, images_of, small_cnn, tiny_vit


@pytest.fixture(scope="session", autouse=True)
def one_thread(few_threads: None) -> None:  # noqa: ARG001  (ours comes after it)
    """These models are too small to share out: two threads would mostly wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Served]:
    """Calibrate and export ``vit`` or ``cnn``; the same request is served once."""

    @cache
    def build(kind: str) -> Served:
        model, size = (tiny_vit(), 32) if kind == "vit" else (small_cnn(), 16)
        images = images_of(16, 3, size, size)
        graph, calibrated = calibrated_of(model, images)
        path = tmp_path_factory.mktemp(kind) / "qdq.onnx"
        export_qdq(calibrated, images[:2], path, ExportSettings(), {"octavo.kind": kind})
        return Served(images, graph, calibrated, path)

    return build


@pytest.fixture(scope="session")
def vit(serve: Callable[..., Served]) -> Served:
    return serve("vit")


@pytest.fixture(scope="session")
def cnn(serve: Callable[..., Served]) -> Served:
    return serve("cnn")
