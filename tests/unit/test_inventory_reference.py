"""docs/inventory.schema.json and docs/inventory.md say what provisioner/inventory.py says now."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pydantic import BaseModel

from provisioner.inventory import Inventory

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("inventory_reference", ROOT / "docs/inventory-reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_schema_is_current(script: ModuleType) -> None:
    assert script.SCHEMA.read_text(encoding="utf-8") == script.schema(), "run: make schema"


def test_the_reference_is_current(script: ModuleType) -> None:
    assert script.REFERENCE.read_text(encoding="utf-8") == script.reference(), "run: make schema"


def test_every_key_has_a_description_and_stands_in_the_reference(script: ModuleType) -> None:
    text = script.reference()

    def walk(model: type[BaseModel]) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            assert f"| `{name}` |" in text
            for inner in script._models(field.annotation):
                walk(inner)

    walk(Inventory)


def test_the_schema_knows_every_key_of_the_demonstration() -> None:
    known = json.loads((ROOT / "docs/inventory.schema.json").read_text(encoding="utf-8"))
    demonstration = yaml.safe_load((ROOT / "inventory.yaml").read_text(encoding="utf-8"))
    assert set(demonstration) <= set(known["properties"])
    assert known["additionalProperties"] is False
