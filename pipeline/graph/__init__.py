"""What the tasks of the graph are made of."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: What luigi imports and a run seldom uses: requests to ask luigid, jsonschema for parameters that have a schema.
_SELDOM_USED = ("requests", "jsonschema")


class _ImportedAtFirstUse(ModuleType):
    """Stands for a package until something of it is asked for.

    importlib.util.LazyLoader would import it at the next ``import``, which asks a module for its spec.
    """

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)
        self.__dict__.update(vars(module))
        return getattr(module, name)


for _package in _SELDOM_USED:  # before luigi: together they take 0.08 s
    if _package not in sys.modules and find_spec(_package):
        sys.modules[_package] = _ImportedAtFirstUse(_package)
