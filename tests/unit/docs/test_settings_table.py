"""The README's tables hold every setting, with its variable and default."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from autoloader.settings import CredentialSettings, Settings
from tests.unit.docs.markdown import document


def test_every_setting_is_in_the_table_with_its_default() -> None:
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in document("README.md").rows() if cells[0].startswith("`AUTOLOADER_")}
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        assert default is not PydanticUndefined, name
        expected[f"AUTOLOADER_{name.upper()}"] = _shown(default)
    assert told == expected


def _shown(default: object) -> str:
    if default is None or default == ():
        return "-"
    if isinstance(default, BaseModel):
        return str(default.model_dump(exclude_defaults=True))
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_setting_says_what_it_means() -> None:
    meanings = [cells[2] for cells in document("README.md").rows() if cells[0].startswith("`AUTOLOADER_")]
    assert all(meaning.endswith(".") for meaning in meanings)


def test_every_field_of_a_credential_is_in_the_table() -> None:
    rows = [cells[0].strip("`") for cells in document("README.md").rows() if len(cells) == 2]
    assert [name for name in CredentialSettings.model_fields if name not in rows] == []


def test_no_setting_is_named_that_is_not_there() -> None:
    words = {word for code in document("README.md").code for word in code.replace("=", " ").split()}
    # A double underscore leads into a setting that has parts.
    named = {word.partition("__")[0] for word in words if word.startswith("AUTOLOADER_")}
    assert named <= {f"AUTOLOADER_{name.upper()}" for name in Settings.model_fields}
