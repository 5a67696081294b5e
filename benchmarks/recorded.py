"""Compare a run's float model with the figure that is recorded of it."""

from benchmarks.accuracy import Accuracy, Predictions, collect
from benchmarks.selfcheck import check_recorded
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import Spread
from deploy.pipeline.line import Line
from quant.data.batches import Batch, batches
from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput

__all__ = ["check_float"]

_IMAGES = 200  # a mistake worth finding costs several points


def check_float(line: Line, measured: Accuracy, recorded: float) -> None:
    """See `benchmarks.selfcheck.check_recorded`; mistakes are looked for on some of the images.

    Args:
        line: the run, its float model exported.
        measured: what that reached.
        recorded: top-1 in %.

    Raises:
        BadInput: the figure cannot be that of the model on these images.
    """
    own = line.loaded.preprocessing
    if not isinstance(own, Preprocessing):
        raise BadInput("bench: recorded_top1 is for models that take images; leave it out")
    some = Spread(line.validation, _IMAGES)
    size = line.batch_size(line.config.bench.accuracy_batch)
    with OrtRunner(line.workspace.path(FLOAT_FILE)) as runner:

        def answers(preprocessing: Preprocessing, swapped: bool) -> Predictions:
            found = (
                Batch(b.images.flip(1) if swapped else b.images, b.labels, b.names)
                for b in batches(some, preprocessing, size)
            )
            return collect(runner, found, title="looking for the mistake", total=len(some))

        check_recorded(measured, recorded, own, answers)
