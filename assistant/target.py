"""Where probes may look, from the operator's settings and nothing else."""

from __future__ import annotations

from assistant.settings import Settings
from probes.types import Target


def target_of(settings: Settings, active: bool = False) -> Target:
    """The target that the settings name; `active`: probes that put load on a server may run too."""
    return Target(
        urls=_parts(settings.urls, ","),
        log_paths=_parts(settings.log_paths, ":"),
        log_roots=_parts(settings.log_roots, ":"),
        hub_url=settings.hub_url,
        model_directories=_parts(settings.model_directories, ":"),
        home=str(settings.home_folder),
        engine_api_key=settings.engine_api_key,
        active=active or settings.active,
    )


def _parts(joined: str, separator: str) -> tuple[str, ...]:
    return tuple(part for part in joined.split(separator) if part)
