"""The axes along which worlds vary, as data."""

from tiararodney.posix_sdc.factory.taxonomy import (
    ANNOUNCEMENTS,
    ARCHETYPES,
    BLOCKS,
    BY_NAME,
    COURSES,
    DEPTHS,
    DOCUMENTATION,
    FAMILIES,
    LEVELS,
    LISTINGS,
    PROVIDERS,
    Archetype,
    Course,
    ProviderKind,
    archetypes_of,
    family_of,
)

__all__ = [
    "ANNOUNCEMENTS",
    "ARCHETYPES",
    "BLOCKS",
    "BY_NAME",
    "COURSES",
    "DEPTHS",
    "DOCUMENTATION",
    "FAMILIES",
    "LEVELS",
    "LISTINGS",
    "PROVIDERS",
    "Archetype",
    "Course",
    "ProviderKind",
    "archetypes_of",
    "family_of",
]
