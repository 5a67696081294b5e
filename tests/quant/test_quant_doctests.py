import doctest
import pkgutil
from importlib import import_module

import pytest

import quant

MODULES = [module.name for module in pkgutil.walk_packages(quant.__path__, "quant.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("name", ["quant.spec", "quant.qparams", "quant.kernels"])
def test_the_formats_have_examples(name: str) -> None:
    assert doctest.testmod(import_module(name)).attempted > 0
