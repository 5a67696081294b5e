"""Train the perceptron of the AWQ example and store it beside this file.

Run from the repository root: `python -m examples.awq.train`. It takes less than a minute on one CPU core.
"""

from pathlib import Path

from examples.digits.train import command
from quant.models.config import ModelConfig

WEIGHTS = Path(__file__).with_name("digits_mlp.safetensors")
MODEL = ModelConfig(name="examples.awq.model:digits_mlp")
EPOCHS = 60

if __name__ == "__main__":
    command(__doc__, MODEL, WEIGHTS, EPOCHS)
