"""A loaded bundle: from samples to named answers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.layout import ENGINE, MODEL, PLAN
from deploy.bundle.manifest import Manifest
from deploy.cpu import has_vnni
from deploy.onnxruntime.build import EXACT_ON_X86, SessionSettings
from deploy.onnxruntime.run import OrtRunner
from deploy.runner import Runner
from quant.errors import BadInput, Unsupported

__all__ = ["Answer", "Bundle"]


@dataclass(frozen=True)
class Answer:
    """One of a model's answers to a sample.

    Attributes:
        index: of the output.
        label: its name; the index where outputs have none.
        score: 0 to 1, by softmax; of ``multilabel`` models by sigmoid, where above 0.5 is yes.
    """

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Bundle:
    """What :func:`deploy.bundle.load_bundle` gives.

    ::

        bundle = load_bundle("digits.zip")
        with bundle.runner() as runner:
            (answers,) = bundle.predict(runner, ["seven.png"], top=3)

    Attributes:
        path: where it was loaded from.
        manifest: what it says of itself.
        files: the bytes of each file.
        labels: names of the outputs; empty where they have none.
        digest: SHA-256 of its list of digests, which identifies the whole bundle.
    """

    path: str
    manifest: Manifest
    files: Mapping[str, bytes]
    labels: tuple[str, ...]
    digest: str

    @property
    def saturates_without_vnni(self) -> bool:
        """Whether its integer products could overflow on x86 without VNNI: no weight is guarded."""
        return self.manifest.target == "ort-x86" and self.manifest.guard == "none"

    def runner(self, settings: SessionSettings | None = None) -> OrtRunner:
        """Its model on ONNX Runtime, to be used in a ``with`` block.

        Args:
            settings: of the session; by default one thread, and the providers that it was measured with.
                Where integer products of this model could saturate on this processor, which lacks VNNI,
                ONNX Runtime's slower exact kernels are used by default.

        Raises:
            Unsupported: it has an engine of TensorRT.
        """
        if self.has_engine:
            raise Unsupported(
                f"{self.path}: has an engine of TensorRT, which ONNX Runtime does not run; use its "
                "engine_runner, on a machine with that GPU"
            )
        return OrtRunner(self.files[MODEL], settings or self.session_settings())

    @property
    def has_engine(self) -> bool:
        """Whether it has an engine of TensorRT in the place of an ONNX model."""
        return PLAN in self.files

    @property
    def batches(self) -> tuple[int, int | None]:
        """Fewest and most samples that its model takes at a time; None where any number is taken."""
        if self.has_engine:
            batches = json.loads(self.files[ENGINE])["settings"]["batches"]
            return int(batches[0]), int(batches[-1])
        fixed = self.manifest.model_input.shape[0]
        return fixed or 1, fixed

    @contextmanager
    def engine_runner(self, contexts: int = 1) -> Iterator[Runner]:
        """Its engine on TensorRT, which wants files: they are in a temporary folder while it is opened.

        Args:
            contexts: calls from several threads that may run side by side.

        Raises:
            BadInput: it was built for another GPU or version, or no temporary file can be written.
            Unsupported: it has no engine, or TensorRT, pycuda or a GPU is missing.
        """
        from deploy.tensorrt.run import RunSettings, TensorRtRunner

        if not self.has_engine:
            raise Unsupported(f"{self.path}: has no engine; package it with --engine")
        with ExitStack() as stack:
            with ExitStack() as while_opened:
                try:
                    folder = Path(while_opened.enter_context(TemporaryDirectory()))
                    for name in (PLAN, ENGINE):
                        (folder / name).write_bytes(self.files[name])
                except OSError as error:
                    raise BadInput(
                        f"{self.path}: TensorRT reads its engine from a file, and no temporary one can be "
                        f"written ({error.strerror}); in a container give --tmpfs /tmp"
                    ) from error
                runner = TensorRtRunner(folder / PLAN, RunSettings(contexts=contexts))
                stack.enter_context(runner)
            yield runner

    def session_settings(self, threads: int = 1) -> SessionSettings:
        """What :meth:`runner` uses by default, but for the threads."""
        saturates = self.saturates_without_vnni and not has_vnni()
        config = EXACT_ON_X86 if saturates else {}
        return SessionSettings(self.manifest.providers, intra_op_threads=threads, config=config)

    def prepare(self, samples: Sequence[Any]) -> NDArray[np.float32]:
        """The model's input [N, ...] of some samples.

        Args:
            samples: Pillow images, paths of image files or their bytes; or arrays, as the model takes.

        Raises:
            BadInput: there are none, or one does not fit.
        """
        if not len(samples):
            raise BadInput("there are no samples; give at least one")
        return np.stack([self.manifest.preprocessing.prepare(sample) for sample in samples])

    def scores(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Scores of 0 to 1 of outputs [N, K]: softmax over K; sigmoid of each in a ``multilabel`` model."""
        values = outputs.astype(np.float64)
        if self.manifest.task == "multilabel":
            return 0.5 * (1 + np.tanh(values / 2))  # the sigmoid, which cannot overflow in this form
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    def predict(self, runner: Runner, samples: Sequence[Any], top: int = 5) -> list[list[Answer]]:
        """The best answers to each sample, the best first.

        Args:
            runner: of :meth:`runner`, opened.
            samples: as :meth:`prepare` takes them.
            top: answers per sample, at most.

        Raises:
            BadInput: a sample does not fit, or ``top`` is below 1.
        """
        inputs, name = self.prepare(samples), self.manifest.model_input.name
        size = self.manifest.model_input.shape[0] or len(inputs)
        outputs = [
            runner.infer({name: inputs[start : start + size]})[self.manifest.model_output.name]
            for start in range(0, len(inputs), size)
        ]
        return self.answers(np.concatenate(outputs), top)

    def answers(self, outputs: NDArray[Any], top: int = 5) -> list[list[Answer]]:
        """The best answers in each row of outputs [N, K], the best first.

        Args:
            outputs: the model's.
            top: answers per row, at most.

        Raises:
            BadInput: ``top`` is below 1.
        """
        if top < 1:
            raise BadInput(f"top is {top}; at least 1 is needed")
        return [self._best(row, top) for row in self.scores(outputs)]

    def _best(self, scores: NDArray[np.float64], top: int) -> list[Answer]:
        order = np.argsort(-scores, kind="stable")[:top]
        return [Answer(int(i), self.labels[i] if self.labels else str(i), float(scores[i])) for i in order]
