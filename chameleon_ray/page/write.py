"""Writes the report: runs are read, the page is filled in, and both page and figures are kept."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path

from chameleon_ray.errors import SettingsError
from chameleon_ray.files import write_whole
from chameleon_ray.page.assemble import default_place, sections
from chameleon_ray.page.figures import Figure
from chameleon_ray.page.runs import load_run
from chameleon_ray.storage import Place, open_folder


def write_report(runs: Sequence[Place], out: Path | None = None) -> list[Path]:
    """Write the page and its figures.

    Args:
        runs: Run folders, or their URLs; each counts once. Nothing in their journals changes, and
            they may be going on.
        out: The page, `*.html`; the figures lie beside it, in a folder of the same name without
            `.html`. By default `report.html` in the run's folder, or, for several runs or a URL,
            in the present one.

    Returns:
        What was written, the page first.

    Raises:
        RunFolderError: One is no run folder, or cannot be read.
        SettingsError: The page cannot be written there.
        UnknownNameError: A run is of a network that this version does not know.
    """
    distinct = list({open_folder(run).address: run for run in runs}.values())
    page = out or default_place(distinct)
    if page.suffix.lower() not in {".html", ".htm"} or page.is_dir():
        raise SettingsError(f"-o {page}: give a file that ends in .html, such as report.html.")
    found = sections([load_run(run) for run in distinct])
    figures = [figure for section in found for figure in section.figures]
    shown = {"sections": found}
    return write_page(page, "report.html.j2", figures, shown, remedy="-o FILE.html")


def write_page(
    page: Path,
    template: str,
    figures: Sequence[Figure],
    values: Mapping[str, object],
    *,
    remedy: str,
) -> list[Path]:
    """Fill a page in, and write its figures beside it.

    Args:
        page: The page; the figures lie in a folder of the same name without `.html`.
        template: Name of the page's template.
        figures: Those on the page.
        values: What the template shows; text of it is escaped.
        remedy: The option that chooses another place, for messages.

    Returns:
        What was written, the page first.

    Raises:
        SettingsError: The page cannot be written there.
    """
    style = _resource("charts.css")
    svgs = {
        f"{figure.name}.svg": figure.svg.replace(">", f"><style>{style}</style>", 1)
        for figure in figures
    }
    folder = page.with_suffix("")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        if svgs:
            folder.mkdir(exist_ok=True)
        for name, svg in svgs.items():
            write_whole(folder / name, svg.encode())
        write_whole(page, _render(template, values).encode())
    except OSError as error:
        raise SettingsError(
            f"{page}: the report cannot be written there: {error.strerror or error}. Choose "
            f"another place with {remedy}."
        ) from error
    return [page, *(folder / name for name in svgs)]


def _render(template: str, values: Mapping[str, object]) -> str:
    """The page's HTML; whatever comes from runs is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chameleon_ray.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _resource("copy.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        **values,
        style=Markup(_resource("charts.css") + _resource("page.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_digest=digest,
        svg=Markup,  # the charts escape their text themselves
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        version=metadata.version("chameleon-ray"),
    )


def _resource(name: str) -> str:
    return resources.files("chameleon_ray.page").joinpath(name).read_text(encoding="utf-8")
