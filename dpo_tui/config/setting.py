"""Declaration of one setting: a pydantic field with title, help, unit, and whether it is advanced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo, field_validator
from pydantic_core import CoreSchema, core_schema


class Section(BaseModel):
    """One table of a config file. The sections are mixed into one flat ``Config``, so a name exists only once."""

    # Values are validated as a whole `Config`; a validator for each section would be a tenth of the start-up.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, defer_build=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_declared(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = str(cls.model_fields[info.field_name or ""].annotation)
        # Pydantic would read `lora_r = true` as 1.
        if isinstance(value, bool) and "bool" not in annotation and "dict[" not in annotation:
            raise ValueError("must be a number or text, not true/false")
        # Config files of TRL and similar tools write a single loss or module without brackets.
        if isinstance(value, str) and "list[" in annotation:
            return [value]
        return value


@dataclass(frozen=True)
class SettingText:
    """Text about a setting for forms, files and docs.

    Attributes:
        title: two or three words for a form.
        help: what it does and what is sensible, in sentences.
        unit: of a number, empty where it has none.
        advanced: folded away in forms until asked for.
    """

    title: str
    help: str
    unit: str = ""
    advanced: bool = False


@dataclass(frozen=True)
class OneOf:
    """Limits a text setting to the names in a registry: ``Annotated[str, OneOf(names)]``.

    A Literal would repeat the names, and would not know a row that is added to the registry.

    Args:
        names: returns the names that are allowed; called for every check.
    """

    names: Callable[[], tuple[str, ...]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the text, with the check after it."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: str) -> str:
        if value not in self.names():
            raise ValueError(f"must be one of {', '.join(self.names())}")
        return value


def setting(default: Any, title: str, text: str, *, unit: str = "", advanced: bool = False, **bounds: Any) -> Any:
    """Declare a setting.

    Args:
        default: the default, or ``...`` where there is none.
        title: two or three words for a form.
        text: what it does and what is sensible.
        unit: of a number.
        advanced: folded away in forms until asked for.
        **bounds: pydantic's ``gt``, ``ge``, ``lt``, ``le``, ``min_length``.
    """
    shown = SettingText(title=title, help=text, unit=unit, advanced=advanced)
    return Field(default, title=title, description=text, json_schema_extra={"text": vars(shown)}, **bounds)
