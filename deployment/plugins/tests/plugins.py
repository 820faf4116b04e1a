"""Loads a plugin by its file: plugins are no package, and one of them has the name of a standard module."""

from __future__ import annotations

import importlib.util
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent.parent


def load(kind, name):
    spec = importlib.util.spec_from_file_location(f"plugin_{kind}_{name}", FOLDER / kind / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
