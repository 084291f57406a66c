"""Finding the modules of a package by what their classes say, instead of a list of names."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

Class = TypeVar("Class", bound=type)


def find_classes(package: ModuleType, base: Class) -> dict[str, Class]:
    """Return the concrete subclasses of `base` in a package, by their `module`, in order.

    Imports every file directly in the package, and its sub-packages: they must be cheap to import.
    """
    found: dict[str, Class] = {}
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for each in vars(importlib.import_module(info.name)).values():
            # By its true type: `isinstance` would have a lazy object, such as Django's settings,
            # load what it stands for.
            is_class = issubclass(type(each), type)
            if is_class and issubclass(each, base) and not inspect.isabstract(each):
                found[each.module] = each
    return dict(sorted(found.items()))
