"""``python -m benchmarks.bars.calibration_memory IMAGES``: the peak memory of one calibration, as JSON."""

import json
import sys
from pathlib import Path

from benchmarks.bars.runs import vit_config
from benchmarks.harness.status import read_status
from deploy.pipeline.images import calibration_batches
from deploy.pipeline.line import Line
from quant.calibrate import calibrate


def main(images: int) -> None:
    """Calibrate ViT-Tiny on the first ``images`` images, as ``octavo quantize`` does."""
    config = vit_config()
    limited = config.calibration.model_copy(update={"limit": images})
    line = Line(config.model_copy(update={"calibration": limited}), Path())
    batches = calibration_batches(line.calibration, line.loaded.preprocessing, config.calibration_batch)
    calibrate(line.graph, line.recipes[0], batches)
    print(json.dumps({"images": images, "peak_mib": read_status("VmHWM")}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
