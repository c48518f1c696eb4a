"""Settings of an institution for tests, from keywords of any section."""

from dataclasses import fields
from typing import Any

from client.institution.config import InstitutionConfig, LimitsConfig, LocalModelConfig, ReleaseConfig

_SECTIONS = {"limits": LimitsConfig, "release": ReleaseConfig, "model": LocalModelConfig}


def institution_config(name: str = "bank", **values: Any) -> InstitutionConfig:
    """Return the settings of `name`. Keywords are keys of [limits], [release] and [model], or `data` and `noise`."""
    sections: dict[str, Any] = {}
    for section, cls in _SECTIONS.items():
        own = {field.name for field in fields(cls)} & set(values)
        sections[section] = cls(**{key: values.pop(key) for key in own})
    return InstitutionConfig(name=name, **sections, **values)
