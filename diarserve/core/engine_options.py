"""The options of an engine, as its constructor declares them.

They are read from the engine's source: importing it would load a model library into the server. Where the source does
not say (no Python source, a constructor that a base class of another module has), nothing is checked here and the
worker's own start is the check.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib.util
import json
import pathlib
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from pydantic import TypeAdapter, ValidationError

from workers.runtime import engines

# What annotations are made of. One that names anything else is not checked.
_NAMES = {**vars(builtins), **vars(collections.abc), **vars(typing), "Path": pathlib.Path}


class WrongOption(Exception):
    """One option, or the engine itself, is wrong."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(f"{option}: {message}")
        self.option = option
        self.message = message


@dataclass(frozen=True, slots=True)
class EngineOptions:
    types: Mapping[str, Any]  # by name; Any where the annotation is missing or says what is not known here
    required: frozenset[str]
    open: bool = False  # whether any other option is taken too

    def parse(self, name: str, text: str) -> Any:
        """A value as an environment variable has it: JSON where the option is no text."""
        try:
            value = json.loads(text)
        except ValueError:
            return text
        known = self.types.get(name, Any)
        return value if known is Any or value is None or isinstance(value, (dict, list)) else text

    def check(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[WrongOption]]:
        """The options as the constructor's types have them, and what is wrong.

        >>> EngineOptions({"beam": int}, frozenset()).check({"beam": "5"})
        ({'beam': 5}, [])
        """
        checked: dict[str, Any] = {}
        wrong = [WrongOption(name, "the engine needs this option") for name in sorted(self.required - set(options))]
        for name, value in options.items():
            if name not in self.types and not self.open:
                there = ", ".join(self.types) or "none"
                wrong.append(WrongOption(name, f"the engine has no such option; it has: {there}"))
                continue
            try:
                checked[name] = TypeAdapter(self.types.get(name, Any)).validate_python(value)
            except ValidationError as error:
                wrong.append(WrongOption(name, "; ".join(dict.fromkeys(each["msg"] for each in error.errors()))))
        return checked, wrong


UNCHECKED = EngineOptions({}, frozenset(), open=True)


def of_engine(engine: str) -> EngineOptions:
    """What the engine of this name takes. Raises WrongOption where there is no such engine."""
    try:
        module, _, name = engines.locate(engine).partition(":")
        spec = _find(module)
    except (engines.UnknownEngine, ValueError) as error:
        raise WrongOption("engine", str(error)) from error
    if spec is None:
        raise WrongOption("engine", f"there is no module {module!r}")
    if not spec.origin or not spec.origin.endswith(".py"):
        return UNCHECKED
    try:
        tree = ast.parse(pathlib.Path(spec.origin).read_bytes(), spec.origin)
    except SyntaxError as error:
        raise WrongOption("engine", f"the module {module} cannot be read: {error}") from error
    if name not in (there := set(_names_of(tree))) and not there & {"*", "__getattr__"}:
        raise WrongOption("engine", f"the module {module} has no {name!r}")
    constructor = _constructor(tree, name)
    return _declared(constructor) if constructor else UNCHECKED


def _find(module: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, which would import the packages around it."""
    first, *rest = module.split(".")
    spec = sys.modules[first].__spec__ if first in sys.modules else importlib.util.find_spec(first)
    found = first
    for name in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        found += f".{name}"
        spec = PathFinder.find_spec(found, list(spec.submodule_search_locations))
    return spec


def _names_of(tree: ast.Module) -> Iterator[str]:
    """What the module binds anywhere in it, roughly."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _constructor(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """Of the class, or of the first of its bases in this module that has one; a function is its own."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    method.args.args = method.args.args[1:]  # without self
                    return method
            for base in node.bases:
                if isinstance(base, ast.Name) and (inherited := _constructor(tree, base.id)):
                    return inherited
    return None


def _declared(function: ast.FunctionDef) -> EngineOptions:
    arguments = function.args
    named = [*arguments.args, *arguments.kwonlyargs]
    defaults: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    defaults += [*arguments.defaults, *arguments.kw_defaults]
    return EngineOptions(
        types={argument.arg: _type(argument.annotation) for argument in named},
        required=frozenset(each.arg for each, default in zip(named, defaults, strict=True) if default is None),
        open=arguments.kwarg is not None,
    )


def _type(annotation: ast.expr | None) -> Any:
    """What an annotation means. It may name what the module imports: then nothing is known of it."""
    if annotation is None:
        return Any
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if any(isinstance(node, ast.Name) and node.id not in _NAMES for node in ast.walk(annotation)):
        return Any
    if any(isinstance(node, (ast.Call, ast.Attribute)) for node in ast.walk(annotation)):
        return Any
    return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(_NAMES))
