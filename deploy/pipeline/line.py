"""What the stages of a run share: the model, its graph, the images and the calibrations, each made once."""

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from deploy.pipeline.config import RunConfig, load_config
from deploy.pipeline.images import Spread, describe_source
from deploy.pipeline.plugins import load_plugins, plugin_identity
from deploy.pipeline.workspace import Workspace, digest, library_versions
from export.targets import Target, get_target
from quant.calibrate import check_methods
from quant.calibrated import CalibratedGraph
from quant.data.batches import batches
from quant.data.sources import ImageSource, open_source
from quant.errors import BadInput
from quant.files import file_sha256
from quant.graph import capture
from quant.models.load import LoadedModel, load_model
from quant.recipe import Recipe, load_recipes, near
from quant.store import load_calibration

__all__ = [
    "CONFIG",
    "FLOAT",
    "HALF",
    "Line",
    "calibration_file",
    "float_variant",
    "open_run",
    "qdq_file",
    "variant_name",
]

CONFIG = "config.yaml"
N = TypeVar("N", Recipe, Target)
FLOAT, HALF = "fp32", "fp16"
_EXAMPLE_IMAGES = 2  # torch.export takes a batch of 1 for a constant


class Line:
    """A run in progress. Everything is made when first asked for, so that a skipped stage costs nothing.

    Attributes:
        config: what the run is made from.
        workspace: its folder.
    """

    def __init__(self, config: RunConfig, root: Path) -> None:
        self.config = config
        load_plugins(config.code, config.plugins)
        self.workspace = Workspace(root)
        self._calibrated: dict[str, CalibratedGraph] = {}

    def check(self) -> None:
        """Find what is wrong with recipes, model and images before anything is done.

        Raises:
            BadInput: naming it. Images themselves are decoded only when their turn comes.
        """
        _ = self.recipes, self.loaded, self.calibration, self.validation

    @cached_property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes, whose names differ."""
        recipes = tuple(recipe for name in self.config.recipe for recipe in load_recipes(name))
        names = [recipe.name for recipe in recipes]
        if len(set(names)) != len(names) or {FLOAT, HALF} & set(names):
            raise BadInput(
                f"recipes must have different names other than '{FLOAT}' and '{HALF}', got "
                f"{', '.join(names)}; change their `name`"
            )
        for recipe in recipes:
            check_methods(recipe)
        return recipes

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The targets."""
        return tuple(get_target(name) for name in self.config.targets)

    def recipe_named(self, name: str | None) -> Recipe:
        """One of the recipes, the first where no name is given.

        Raises:
            BadInput: there is none of that name.
        """
        return _named("recipe", name, self.recipes)

    def target_named(self, name: str | None) -> Target:
        """One of the targets, the first where no name is given.

        Raises:
            BadInput: there is none of that name.
        """
        return _named("target", name, self.targets)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The trained model."""
        return load_model(self.config.model, self.config.seed)

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The captured float graph; nobody changes it."""
        return capture(self.loaded.model, self.example, self.config.export.dynamic_batch)

    @cached_property
    def example(self) -> Tensor:
        """A seeded random input [N, C, H, W] or [N, ...] of the batch size that models are captured with."""
        count = _EXAMPLE_IMAGES if self.config.export.dynamic_batch else 1
        shape = (count, *self.loaded.preprocessing.input_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.config.seed))

    @property
    def labels(self) -> int | None:
        """How many labels there are, where the model says so: its classes, or all sets of its answers."""
        outputs = self.loaded.num_classes
        return 2**outputs if outputs is not None and self.config.task == "multilabel" else outputs

    @cached_property
    def calibration(self) -> ImageSource:
        """The images that ranges are learned from."""
        return open_source(self.config.calibration, self.labels)

    @cached_property
    def validation(self) -> ImageSource:
        """The images that accuracy is measured on."""
        return open_source(self.config.validation, self.labels)

    @property
    def validation_in_words(self) -> str:
        """For the report."""
        words = describe_source(self.config.validation, self.validation)
        return f"{words}; right is who has all answers right" if self.config.task == "multilabel" else words

    def batch_size(self, wanted: int) -> int:
        """Images per call: what is wanted, or 1 where models are exported for a batch of 1."""
        return wanted if self.config.export.dynamic_batch else 1

    @property
    def parity_source(self) -> ImageSource:
        """Some calibration images to compare models on; a single one where the batch is fixed to 1."""
        return Spread(self.calibration, self.batch_size(self.config.export.parity_images))

    @cached_property
    def parity_images(self) -> Tensor:
        """Those images [N, C, H, W], preprocessed."""
        some = self.parity_source
        (batch,) = batches(some, self.loaded.preprocessing, len(some))
        return batch.images

    @cached_property
    def model_identity(self) -> dict[str, Any]:
        """What changes when the float model changes; of a factory, the file it is in."""
        factory = sys.modules.get(self.loaded.name.partition(":")[0])
        file = getattr(factory, "__file__", None)
        return {
            **self.config.model.model_dump(mode="json", exclude={"weights"}),
            "weights": self.loaded.weights_sha256,
            "factory": None if file is None else file_sha256(Path(file)),
            "seed": self.config.seed,
            "dynamic_batch": self.config.export.dynamic_batch,
            "plugins": plugin_identity(self.config.plugins),
        }

    @property
    def fingerprint(self) -> str:
        """Of the captured graph, for stored calibrations."""
        return digest([self.model_identity, library_versions()["torch"], library_versions()["timm"]])

    def metadata(self, recipe: Recipe | None = None) -> dict[str, str]:
        """What an ONNX file says about its origin. There is no date: the same input gives the same bytes."""
        about = {
            "octavo.model": self.loaded.name,
            "octavo.weights_sha256": self.loaded.weights_sha256 or "",
            "octavo.num_classes": str(self.loaded.num_classes or ""),
            "octavo.preprocessing": self.loaded.preprocessing.to_metadata(),
            "octavo.versions": json.dumps(library_versions(), sort_keys=True),
        }
        if recipe is not None:
            about["octavo.recipe"] = recipe.model_dump_json()
        return about

    def keep(self, calibrated: CalibratedGraph) -> None:
        """Spare later stages the reading of a calibration that was just made; only of the last one.

        Each holds a copy of the model, and a grid has dozens.
        """
        self._calibrated = {calibrated.recipe.name: calibrated}

    def forget(self) -> None:
        """Free the memory of models and calibrations; they are made or read again when asked for."""
        self._calibrated = {}
        for name in ("loaded", "graph", "parity_images"):
            self.__dict__.pop(name, None)

    def calibrated(self, recipe: Recipe) -> CalibratedGraph:
        """The calibration that the run's folder holds for a recipe."""
        if recipe.name not in self._calibrated:
            path = self.workspace.path(calibration_file(recipe))
            self.keep(load_calibration(path, self.graph, self.fingerprint))
        return self._calibrated[recipe.name]


def calibration_file(recipe: Recipe) -> str:
    """Where a recipe's calibration lies in the run's folder."""
    return f"{recipe.name}/calibration.safetensors"


def qdq_file(recipe: Recipe) -> str:
    """Where a recipe's model lies before it is lowered."""
    return f"{recipe.name}/qdq.onnx"


def float_variant(target: Target) -> str:
    """What the float model lowered for a target is called, and its folder."""
    return f"{HALF if target.half_remainder else FLOAT}-{target.name}"


def variant_name(recipe: Recipe, target: Target) -> str:
    """What a lowered model is called, and its folder."""
    return f"{recipe.name}-{target.name}"


def open_run(root: Path) -> Line:
    """Go on with a run that `octavo quantize` or `octavo run` began.

    Raises:
        BadInput: the folder holds no run.
    """
    if not (root / CONFIG).is_file():
        raise BadInput(
            f"{root}: is not the folder of a run (it has no {CONFIG}); start with `octavo quantize`"
        )
    return Line(load_config(root / CONFIG), root)


def _named(kind: str, name: str | None, items: Sequence[N]) -> N:
    known = {item.name: item for item in items}
    if name is None:
        return items[0]
    if name not in known:
        raise BadInput(f"the run has no {kind} '{name}'{near(name, known)}; it has {', '.join(known)}")
    return known[name]
