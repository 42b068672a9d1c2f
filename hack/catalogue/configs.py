# SPDX-License-Identifier: Apache-2.0
"""The config.json of the models in configs.yaml."""

import copy
import json
import pathlib
import re

import yaml


def merged(base, change):
    """base with the fields of change; objects are merged, everything else is replaced."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return expanded(change)
    out = dict(base)
    for key, value in change.items():
        out[key] = merged(out.get(key), value)
    return out


def expanded(value):
    """The value with each "1.0 x 3" and each "a.{0..2}" as a list, and without references to the file's own objects."""
    if isinstance(value, dict):
        return {key: expanded(inner) for key, inner in value.items()}
    if isinstance(value, str) and " x " in value:
        item, _, times = value.partition(" x ")
        return [float(item)] * int(times)
    if isinstance(value, list):
        return [one for item in value for one in ranged(item)]
    return copy.deepcopy(value)


def ranged(item):
    found = re.search(r"\{(\d+)\.\.(\d+)\}", item) if isinstance(item, str) else None
    if not found:
        return [expanded(item)]
    numbers = range(int(found.group(1)), int(found.group(2)) + 1)
    return [item.replace(found.group(0), str(number)) for number in numbers]


class Configs:
    """What configs.yaml describes, beside the folder of files that its `from` names."""

    def __init__(self, description: pathlib.Path, files: pathlib.Path):
        self.models = yaml.safe_load(description.read_text())["models"]
        self.files = files

    def config(self, name: str) -> dict:
        entry = self.models[name]
        if unknown := entry.keys() - {"from", "like", "approximate", "others", "processor", "without", "set", "pattern", "note"}:
            raise SystemExit(f"{name}: configs.yaml has unknown fields: {sorted(unknown)}")
        config = {}
        if "from" in entry:
            config = json.loads((self.files / f"{entry['from']}_config.json").read_text())
        elif "like" in entry:
            config = self.config(entry["like"])
        for field in entry.get("without", ()):
            del config[field]
        config = merged(config, entry.get("set", {}))
        if pattern := entry.get("pattern"):
            text = config.get("text_config", config)
            layers = text["num_hidden_layers"]
            text["layer_types"] = (pattern * layers)[:layers]
        return config
