"""The example that is no vision model: its files go together, without the minutes that a whole run takes."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from benchmarks.suite import begin_run
from examples.tabular.prepare import split, train

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "tabular.yaml"


def test_the_prepared_rows_and_weights_are_what_the_configuration_reads(tmp_path: Path) -> None:
    text = CONFIG.read_text().replace("../runs/tabular_data", str(tmp_path))
    text = text.replace("code: ..", f"code: {CONFIG.parents[1]}").replace(
        "tabular/w4a16", f"{CONFIG.parent}/tabular/w4a16"
    )
    (tmp_path / "tabular.yaml").write_text(text)
    (rows, labels), (held, held_labels) = split()
    model = train(rows, labels, epochs=2)
    np.savez(tmp_path / "calibration.npz", inputs=rows, labels=labels)
    np.savez(tmp_path / "validation.npz", inputs=held, labels=held_labels)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")

    line = begin_run(tmp_path / "tabular.yaml", tmp_path / "run")
    assert len(line.calibration) == 256
    with torch.inference_mode():
        got, expected = line.graph(line.parity_images), model(line.parity_images)
    # The captured graph takes attention apart; float32 sums in another order differ by some 1e-6.
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    right = (model(torch.from_numpy(held)).argmax(dim=1).numpy() == held_labels).mean()
    assert right > 0.85  # the larger of the two classes alone has 63 %
