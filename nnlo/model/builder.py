"""Model builders: what a manager is given, so that every rank can build the same model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from nnlo.model.source import ModelSource, load_model
from nnlo.model.weights import load_weights


class ModelBuilder:
    """Base of all builders: subclass it and override `build_model`.

    `name` begins the names of a run's files: that of the class, unless it or an instance sets its own.
    """

    name: str = "model"
    comm: object = None

    def __init__(self, comm: object = None) -> None:
        self.comm = comm

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def build_model(self) -> nn.Module:
        """A new torch module, the same on every rank; classifiers return logits."""
        raise NotImplementedError(f"{type(self).__name__} must override build_model(), which returns a torch module")

    def param_groups(self, model: nn.Module) -> Iterable[Mapping[str, Any]] | None:
        """Parameters with settings of their own for the optimizer, as torch takes them: [{"params": ..., "lr": ...}].

        Those in no group get the optimizer's own settings. None: there are no groups.
        """
        return None


class ModelPytorch(ModelBuilder):
    """Builds a ready-made model by name, or that of a .py file, with `params` for its get_model.

    `weights`: a .safetensors file, or what torch.save made of a state_dict, to start from. Raises OptionsError for an
    unknown model or parameter, DataError for weights that are not there or do not fit.
    """

    def __init__(
        self,
        comm: object,
        source: str | os.PathLike[str] | ModelSource,
        weights: str | os.PathLike[str] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(comm)
        self.source = source if isinstance(source, ModelSource) else load_model(source)
        self.weights = None if weights is None else Path(weights)
        self.params = params
        self.name = self.source.name

    def build_model(self) -> nn.Module:
        model = self.source.get_model(**self.params)
        if self.weights is not None:
            load_weights(model, self.weights)
        return model

    def param_groups(self, model: nn.Module) -> Iterable[Mapping[str, Any]] | None:
        found: Iterable[Mapping[str, Any]] | None = self.source.param_groups(model)
        return found
