"""`sekft-train --inspect`: the mask in colour, what is trained of a data set, and what looks wrong. Needs no torch."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.sekft.console import wants_colour
from tiararodney.sekft.endpoint import Endpoint
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import apply_policy, take_fingerprint
from tiararodney.sekft.sft.inspection.report import Shown, inspection_page, inspection_text, show
from tiararodney.sekft.sft.inspection.served import compare
from tiararodney.sekft.sft.inspection.survey import Survey, template_findings
from tiararodney.sekft.tokenizer import load_tokenizer
from tiararodney.sekft.trajectories import Session, Sessions

if TYPE_CHECKING:
    from tiararodney.sekft.sft.config import InspectConfig

log = logging.getLogger(__name__)

_LOG_SECONDS = 5.0
_NARROWEST, _WIDEST = 40, 120


def run(config: InspectConfig) -> int:
    """Inspect a data set and print what was found.

    Returns:
        0 where a session can be trained on, and the endpoint that is asked, if any, serves what was trained; else 1.

    Raises:
        UsageError: data, base or endpoint cannot be used.
        SchemaError: a record cannot be taken.
        RunFailed: the endpoint tells no prompts, or stops answering.
    """
    started = logged = time.monotonic()
    sources = [*map(str, config.data), *config.hub]
    log.info("inspecting %s, rendered for %s", ", ".join(sources), config.base)
    endpoint = _endpoint(config)
    tok = apply_policy(load_tokenizer(config.base), config.control_tokens)
    only = (config.data_version, config.data_split, config.verified, config.quarantined)
    sessions = Sessions(config.data, config.hub, *only)
    survey, shown, sample, compared = Survey(config.max_length), list[Shown](), None, list[Session]()
    sessions.observe = lambda t: survey.observe(t.scenario_id, t.archetype, t.split)
    for session in sessions:
        if examples := survey.add(tok, session):
            sample = sample or examples[-1]
            if endpoint and len(compared) < config.endpoint_sessions:
                compared.append(session)
            if len(shown) < config.show:
                shown.append(show(tok, session, examples))
        if time.monotonic() - logged > _LOG_SECONDS:
            logged = time.monotonic()
            log.info("%d sessions inspected", survey.counts["sessions"])
    report = {
        "base": str(config.base),
        "data": sources,
        "read": sessions.read,
        "dropped": {why: {"count": n, "places": sessions.examples[why]} for why, n in sessions.dropped.most_common()},
        **survey.to_json(),
        "findings": template_findings(tok, sample),
        "contract": take_fingerprint(tok, config.control_tokens).to_json(),
        "endpoint": compare(endpoint, tok, compared) if endpoint and compared else None,
        "seconds": round(time.monotonic() - started, 3),
    }
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # sessions hold any character, a terminal may not
    if config.html:
        try:
            Path(config.html).write_text(inspection_page(report, shown), encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--html {config.html}: found {error.strerror}, expected a file that can be written."
            ) from None
    if config.json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        width = max(_NARROWEST, min(shutil.get_terminal_size((100, 24)).columns, _WIDEST))
        sys.stdout.write(inspection_text(report, shown, colour=wants_colour(sys.stdout), width=width))
    differs = bool(report["endpoint"] and report["endpoint"]["differences"])
    return 0 if survey.counts["rendered"] and not differs else 1


def _endpoint(config: InspectConfig) -> Endpoint | None:
    if config.endpoint is None:
        return None
    endpoint = Endpoint(
        config.endpoint, config.model or "", key_variable=config.api_key_env, timeout=config.request_seconds
    )
    endpoint.check()
    return endpoint
