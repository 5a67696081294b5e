"""Building a model's layers from its name, before any weights are read."""

import difflib
import importlib
from typing import Any

import timm
import torch
from torch import nn

from quant.errors import BadInput

__all__ = ["build_model"]


def build_model(name: str, kwargs: dict[str, Any], pretrained: bool, seed: int) -> nn.Module:
    """Build a timm model, or call the factory that `package.module:factory` names.

    Args:
        name: The model.
        kwargs: Passed to timm or to the factory.
        pretrained: Let timm download its weights.
        seed: Of the random initial weights. The caller's random state is left as it was.

    Raises:
        BadInput: If the name, the arguments or the result are unusable, or the download fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _call_factory(name, kwargs) if ":" in name else _create_timm(name, kwargs, pretrained)


def _create_timm(name: str, kwargs: dict[str, Any], pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        architecture = name.split(".")[0]
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; timm.list_models() lists them"
        raise BadInput(f"timm has no model {name!r}{hint} (a model of your own is package.module:factory)")
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **kwargs)
    except Exception as error:  # a model's constructor may reject its arguments with anything
        raise BadInput(f"timm cannot build {name!r} with kwargs {kwargs}: {error}") from error
    if not pretrained:
        return model
    try:
        model = timm.create_model(name, pretrained=True, **kwargs)
    except Exception as error:  # anything from name resolution to a missing file on the hub
        raise BadInput(
            f"timm could not get the pretrained weights of {name!r} ({error}); "
            "where there is no network, download them and give the file as weights"
        ) from error
    return model


def _call_factory(name: str, kwargs: dict[str, Any]) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise BadInput(
            f"{name!r}: the module {module_name!r} cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        reason = "is not callable" if hasattr(module, attribute) else "does not exist"
        raise BadInput(
            f"{name!r}: {attribute!r} {reason} in {module_name}; name a function that returns the model"
        )
    try:
        model = factory(**kwargs)
    except Exception as error:  # the factory is the user's code
        raise BadInput(f"{name!r} failed with kwargs {kwargs}: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise BadInput(f"{name!r} returned {type(model).__name__}; a torch.nn.Module is needed")
    return model
