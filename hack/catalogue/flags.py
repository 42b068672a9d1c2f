# SPDX-License-Identifier: Apache-2.0
"""Print the flags of `vllm serve` as JSON, read from the parser of the vLLM release that is on the Python path, and the names of the chat templates
in the folder that the first argument names, which the release's image has.

Each flag has:
  name      without dashes
  kind      what a value must be: int, float, text, tokens, tokensOrAuto, json, jsonOrText, object, switch,
            onlyOn (a switch without an opposite form), folded (text that is made lower-case, with _ for -) or lora
  values    how many values follow: "1", "?", "+" or "*"; a switch has none
  aliases   other spellings, with dashes
  choices   the only values that the parser takes
  optional  "" and "None" are values, too
  default   where it is a number, a text or a boolean
  schema    for kind object: the JSON schema of the value, without descriptions
  registered  names that the engine accepts when it starts, unless a plugin registers more
  fields    for kind lora: the fields that the JSON form may have

It fails on anything that it does not know, so that a new release cannot add a kind of value unseen.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys


def serve_parser():
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # before the modules were moved
        from vllm.entrypoints.openai.cli_args import make_arg_parser
        from vllm.utils import FlexibleArgumentParser
    return make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))


def closure(function):
    """The variables that a nested function has from around it."""
    names = function.__code__.co_freevars
    return dict(zip(names, (cell.cell_contents for cell in function.__closure__ or ())))


NAMED = {
    "human_readable_int": "tokens",
    "human_readable_int_or_auto": "tokensOrAuto",
    "union_dict_and_str": "jsonOrText",
    "loads": "json",
    "dict": "json",
}


def kind_of(action):
    """(kind, optional, dataclass) of an action's values."""
    kind, optional = action.type, False
    while True:
        if kind is None or kind is str:
            return "text", optional, None
        if kind in (int, float):
            return kind.__name__, optional, None
        name = getattr(kind, "__qualname__", "")
        if name.endswith("optional_type.<locals>._optional_type"):
            kind, optional = closure(kind)["return_type"], True
        elif name.endswith("parse_type.<locals>._parse_type"):
            kind = closure(kind)["return_type"]
        elif name.endswith("parse_dataclass"):
            default = kind.__defaults__
            return "object", optional, default[-1] if default else closure(kind)["dataclass_cls"]
        elif getattr(kind, "__name__", "") in NAMED:
            return NAMED[kind.__name__], optional, None
        elif name.endswith("<lambda>") and kind("A-b") == "a_b":
            return "folded", optional, None
        elif name.endswith("<lambda>") and kind("1,x") == [1, "x"]:
            return "text", optional, None
        elif isinstance(kind, functools.partial):
            kind = kind.func
        else:
            sys.exit(f"--{action.dest}: the type {kind!r} is new: teach hack/catalogue/flags.py what it takes")


def schema_of(cls):
    """The JSON schema of a dataclass as pydantic has it; what has no schema may be anything."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Lenient(GenerateJsonSchema):
        def handle_invalid_for_json_schema(self, schema, error_info):
            return {}

        def encode_default(self, dft):
            return None

    schema = TypeAdapter(cls).json_schema(schema_generator=Lenient, mode="validation")
    return prune(schema)


# pydantic converts texts of JSON to the type that a field has; a schema alone would refuse them.
CONVERTED = {
    "integer": {"type": "string", "pattern": r"^\s*[+-]?[0-9]+(\.0*)?\s*$"},
    "number": {"type": "string", "pattern": r"^\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*$"},
    "boolean": {"enum": [0, 1, "0", "1", "true", "false", "True", "False", "yes", "no", "on", "off", "t", "f", "y", "n"]},
}


def prune(node):
    """Drops what no check needs, and allows what pydantic converts."""
    if isinstance(node, dict):
        if node.get("type") in CONVERTED:
            bounds = {k: v for k, v in node.items() if k not in ("title", "description", "default", "examples", "deprecated")}
            return {"anyOf": [bounds, CONVERTED[node["type"]]]}
        out = {}
        for key, value in node.items():
            if key in ("properties", "$defs", "patternProperties"):
                out[key] = {name: prune(inner) for name, inner in sorted(value.items())}
            elif key not in ("title", "description", "default", "examples", "deprecated"):
                out[key] = prune(value)
        return out
    if isinstance(node, list):
        return [prune(item) for item in node]
    return node


def flag_of(action):
    strings = [s for s in action.option_strings if not s.startswith("--no-") or f"--{s[5:]}" not in action.option_strings]
    long = [s for s in strings if s.startswith("--")]
    flag = {"name": long[0].removeprefix("--")}
    aliases = sorted(s for s in strings if s != long[0])
    if aliases:
        flag["aliases"] = aliases
    action_class = type(action)
    if isinstance(action, argparse.BooleanOptionalAction):
        flag["kind"] = "switch"
    elif action_class.__name__ == "_StoreTrueAction":
        flag["kind"] = "onlyOn"
    elif action_class.__name__ == "LoRAParserAction":
        module = sys.modules[action_class.__module__]
        flag["kind"], flag["values"] = "lora", "+"
        flag["fields"] = sorted(field.name for field in dataclasses.fields(module.LoRAModulePath))
    elif action_class.__name__ in ("_StoreAction", "_AppendAction", "DeprecatedLogConfigFileAction"):
        kind, optional, dataclass = kind_of(action)
        flag["kind"], flag["values"] = kind, str(action.nargs or "1")
        if optional:
            flag["optional"] = True
        if dataclass is not None:
            flag["schema"] = schema_of(dataclass)
        if action.choices is not None:
            flag["choices"] = sorted(str(c) for c in action.choices if c is not None)
    else:
        sys.exit(f"{action.option_strings}: the action {action_class.__name__} is new: teach hack/catalogue/flags.py what it takes")
    if isinstance(action.default, (bool, int, float, str)) and action.default not in ("", argparse.SUPPRESS):
        flag["default"] = action.default
    return flag


def registered():
    """The names that the two flags for parsers may have, unless a plugin registers more."""
    from vllm.reasoning import ReasoningParserManager
    try:
        from vllm.tool_parsers import ToolParserManager
    except ImportError:  # before the modules were moved
        from vllm.entrypoints.openai.tool_parsers import ToolParserManager

    def names(manager, known):
        return sorted(set(known) | set(getattr(manager, "lazy_parsers", ())))

    return {
        "tool-call-parser": names(ToolParserManager, ToolParserManager.tool_parsers),
        "reasoning-parser": names(ReasoningParserManager, ReasoningParserManager.reasoning_parsers),
    }


def main():
    import vllm

    parser = serve_parser()
    flags = [
        flag_of(a) for a in parser._actions
        if a.option_strings and not isinstance(a, argparse._HelpAction) and a.help != argparse.SUPPRESS
    ]
    for flag in flags:
        if names := registered().get(flag["name"]):
            flag["registered"] = names
    flags.sort(key=lambda f: f["name"])
    # The image has the folder of the sources with the examples; the wheel has not.
    templates = sorted(p.name for p in pathlib.Path(sys.argv[1]).glob("*.jinja"))
    table = {"engine": "vllm", "version": vllm.__version__, "flags": flags, "templates": templates}
    json.dump(table, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
