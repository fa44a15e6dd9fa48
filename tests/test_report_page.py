"""The report: what stands on its page, from journals alone, for every kind of run and reader."""

import base64
import dataclasses
import hashlib
import itertools
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, strategies as st

from chameleon_ray import cli
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import network
from chameleon_ray.page.assemble import readable
from chameleon_ray.page.figures import project
from chameleon_ray.page.runs import load_run
from chameleon_ray.page.scales import Scale
from chameleon_ray.page.write import write_report
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.rounds import Round, RoundJournal
from chameleon_ray.run_folder import Manifest
from chameleon_ray.settings import Policy
from chameleon_ray.tunables import Tunables

LAYER = network("resnet18")[0]
NASTY = "\x1b[31merror:\x1b[0m <script>alert('&')</script>\x00 expected `</pre>`\nsecond line"


def config(i):
    return {"tile_f": (i, 2), "unroll": (i % 3,)}


def measured(i, *, purpose=Purpose.SEARCH, seconds=None, task=LAYER.task.key):
    """The i-th measurement; every fifth failed."""
    failed = i % 5 == 4 and seconds is None
    return Measurement(
        task=task,
        config=config(i),
        purpose=purpose,
        outcome=Outcome.BUILD_ERROR if failed else Outcome.OK,
        message=NASTY if failed else "",
        repeat_seconds=() if failed else (seconds or 4e-3 / (1 + i),),
        build_seconds=0.5,
        run_seconds=0.25,
    )


def round_(number):
    """A round of PPO and adaptive sampling on three knobs."""
    points = np.random.default_rng(number).integers(0, 9, size=(40, 3)).tolist()
    return Round(
        task=LAYER.task.key,
        number=number,
        measured_before=4 * number,
        evaluated=1600,
        candidates=700,
        best_score=0.9,
        points=tuple(tuple(p) for p in points),
        clusters=tuple(i % 9 for i in range(40)),
        chosen=tuple(tuple(p) for p in points[:4]),
        seconds=(1e-3, None, 2e-3, 3e-3),
        wave_scores=(0.3, 0.4),
        entropy=(8.8, 8.1),
        value_loss=(14.0, 0.2),
        policy_loss=(-0.02, math.nan),
        phase_seconds={"explore": 3.0, "fit": 1.0},
    )


def a_run(path, *, n=20, rounds=3, machine="EPYC <9654>, 4 cores", seed=0, ended=True):
    """A run folder as a tuning leaves it."""
    manifest = Manifest(
        network="resnet18",
        env="cpu",
        policy="chameleon",
        seed=seed,
        env_settings=Env(),
        policy_settings=Policy(),
        machine=machine,
        compiler="tvm 0.27",
        template="cpu_conv2d/1",
    )
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({**manifest.to_json(), "layers": [LAYER.index]}))
    journal = Journal(path, Provenance(machine=machine, versions={"tvm": "0.27.0"}))
    journal.append(
        [measured(i, purpose=Purpose.SEARCH if i else Purpose.DEFAULT) for i in range(n)]
    )
    if n and ended:
        torch = measured(0, purpose=Purpose.TORCH, seconds=1e-3)
        finalists = [
            measured(i, purpose=Purpose.FINALIST, seconds=4e-3 / (1 + i)) for i in (0, n - 2)
        ]
        journal.append([*finalists, dataclasses.replace(torch, config={})])
    kept = RoundJournal(path)
    for number in range(1, rounds + 1):
        kept.append(round_(number))
    return path


FIRST_CHOICES = {"block": (32,), "order": (0,), "fast": (0,)}


def a_function_run(path):
    """A run folder as `tune_function` leaves it, with text, numbers and switches as values."""
    knobs = {"block": [32, 64, 128], "order": ["ijk", "ikj"], "fast": [False, True]}
    path.mkdir()
    manifest = {
        "kind": "function",
        "measure": "matmul",
        "knobs": knobs,
        "default": None,
        "policy": "chameleon",
        "policy_settings": {"candidates": 64},
        "seed": 0,
        "machine": "EPYC <9654>, 4 cores",
    }
    (path / "run.json").write_text(json.dumps(manifest))
    tunables = Tunables.of(knobs, where="test")
    by_value = [
        {"block": 32, "order": "ijk", "fast": False},
        {"block": 128, "order": "ikj", "fast": True},
    ]
    rows = tunables.indices(by_value, where="test")
    kinds = tunables.knobs()
    Journal(path, Provenance()).append(
        [
            dataclasses.replace(
                measured(i, task="matmul"),
                config={k.name: k.choices[at] for k, at in zip(kinds, row, strict=True)},
            )
            for i, row in enumerate(rows)
        ]
    )
    return path


VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: it must nest as written, for browsers mend what does not."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.order = [], [], Counter(), []
        self.text = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts[data.strip()] += 1

    def all(self, tag):
        return [attributes for name, attributes, _ in self.tags if name == tag]


def page_of(*runs, out=None):
    page, *_ = write_report(runs, out)
    return Page(page.read_text())


def test_all_of_it_stands_on_one_page(tmp_path):
    """Gain, progress, time, clusters, learning, outcomes, settings, versions, configurations."""
    run = a_run(tmp_path / "run")
    page, *figures = write_report([run])
    assert page == run / "report.html"
    assert {f.parent for f in figures} == {run / "report"}
    names = {f.stem.removeprefix("machine-1-") for f in figures}
    assert {"gain-default", "gain-torch", "time", "outcomes", "layer-1-progress"} <= names
    assert {f"layer-1-round-{n}" for n in (1, 2, 3)} <= names
    assert {"layer-1-entropy", "layer-1-value-loss", "layer-1-wave-scores"} <= names
    taken_apart = Page(page.read_text())
    best = ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in config(18).items())
    assert taken_apart.texts[f"{{\n{best}\n}}"] == 1
    for wanted in (
        "env_settings.repeats.least",
        "policy_settings.candidates",
        "0.27.0",
        "finished",
    ):
        assert taken_apart.texts[wanted] >= 1


def test_gains_are_those_of_the_journal(tmp_path):
    """Default 4 ms, best 4/19 ms, torch 1 ms: 19 times and 4.75 times."""
    page = page_of(a_run(tmp_path / "run"))
    assert page.texts["19.00x"] >= 2
    assert page.texts["4.75x"] >= 2
    assert "From 19.00x to 19.00x; geometric mean 19.00x." in page.text


def test_nothing_on_the_page_comes_from_elsewhere(tmp_path):
    """No address but the page's own anchors; the policy allows its own script alone."""
    page = page_of(a_run(tmp_path / "run"))
    links = [a[name] for _, a, _ in page.tags for name in ("href", "src") if name in a]
    ids = [a["id"] for _, a, _ in page.tags if "id" in a]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "url(" not in page.text
    assert "@import" not in page.text
    addresses = set(re.findall(r"https?://[^\"' )]+", page.text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (security,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert security == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not [
        a for _, a, _ in page.tags for name in a if name.startswith("on") or name == "style"
    ]


def test_what_compilers_say_is_told_whole_and_escaped(tmp_path):
    """Markup in a message stays text; terminal colours and NULs go; both lines are there."""
    page = page_of(a_run(tmp_path / "run"))
    told = "error: <script>alert('&')</script>\ufffd expected `</pre>`\nsecond line"
    assert page.texts[told] == 1
    assert page.text.count("<script>") == 1
    assert "\x00" not in page.text
    assert "\x1b" not in page.text
    assert page.texts["EPYC <9654>, 4 cores"] >= 1


def test_half_a_message_and_none_are_told(tmp_path):
    """What is not there is said."""
    assert readable("") == "(no message)"
    assert readable("\x1b[1;31mred\x1b[0m\r\n\ttab") == "red\r\n\ttab"


def test_a_screen_reader_finds_its_way(tmp_path):
    """One h1, no level skipped; figures have names, descriptions and data; tables are headed."""
    page = page_of(
        a_run(tmp_path / "run"), a_run(tmp_path / "other", seed=1), out=tmp_path / "p.html"
    )
    levels = [int(tag[1]) for tag, _, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("main")) == len(page.all("header")) == 1
    ids = {a["id"] for _, a, _ in page.tags if "id" in a}
    charts = page.all("svg")
    assert len(charts) == len(page.all("figure")) == len(page.all("figcaption")) > 10
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= ids
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) > len(charts)
    assert {th.get("scope") for th in page.all("th")} == {"col", "row"}
    within = [opened for tag, _, opened in page.tags if tag == "table" and "figure" in opened]
    assert len(within) == len(charts)
    assert all("details" in opened for opened in within)
    for _, attributes, _ in page.tags:
        named = {*attributes.get("aria-labelledby", "").split()}
        assert named <= ids


def test_figures_stand_by_themselves(tmp_path):
    """Each SVG is XML with its own colours, light and dark, and nothing from elsewhere."""
    _, *figures = write_report([a_run(tmp_path / "run")])
    for figure in figures:
        text = figure.read_text()
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.find("{http://www.w3.org/2000/svg}title").text
        assert root.find("{http://www.w3.org/2000/svg}desc").text
        assert "prefers-color-scheme: dark" in text
        assert "nan" not in text.replace("finance", "")
        assert "inf" not in text


def test_a_run_that_has_measured_nothing(tmp_path):
    """The page says so, shows the settings, and has no empty figure."""
    run = a_run(tmp_path / "run", n=0, rounds=0)
    written = write_report([run])
    assert written == [run / "report.html"]
    assert not (run / "report").exists()
    page = Page(written[0].read_text())
    assert f"{run}: nothing is measured yet." in page.texts
    assert "env_settings.repeats.least" in page.texts
    assert page.all("svg") == []


def test_a_run_of_failures_alone(tmp_path):
    """No best, no gain; outcomes and message are there."""
    run = a_run(tmp_path / "run", n=0, rounds=0)
    Journal(run, Provenance()).append([measured(4), measured(9)])
    page = page_of(run)
    assert "No configuration has a time yet." in page.texts
    assert page.texts["100.0%"] == 0
    assert "build_error 100.0%" in page.text
    assert "From 2 measurements no valid one." in page.text


def test_a_run_that_is_going_on(tmp_path):
    """While a process holds the folder the page says so, and nothing in the journals changes."""
    run = a_run(tmp_path / "run", ended=False)
    before = {p.name: p.read_bytes() for p in run.glob("*.parquet")}
    with FileLock(run / "run.lock"):
        page = page_of(run)
        assert "is still going on: 20 measurements so far" in page.text
        assert page.texts["going on: 0 of 1 layers are finished"] == 1
    assert {p.name: p.read_bytes() for p in run.glob("*.parquet")} == before
    page = page_of(run)
    assert "is still going on" not in page.text
    assert page.texts["ended early: 0 of 1 layers are finished"] == 1
    FileLock(run / "run.lock", timeout=0).acquire().lock.release()


def test_damage_is_named(tmp_path):
    """A part that cannot be read is said to be lost; the rest is shown."""
    run = a_run(tmp_path / "run")
    victim = run / "rounds-00000002-00000002.parquet"
    victim.write_bytes(b"PAR1")
    page = page_of(run)
    assert f"{victim.name} is damaged, and what it held is lost." in page.text
    assert [r.number for r in load_run(run).subjects[0].rounds] == [1, 3]


def test_machines_are_shown_apart(tmp_path):
    """Two machines are two sections; no figure and no table holds times of both."""
    here = a_run(tmp_path / "here")
    there = a_run(tmp_path / "there", machine="Graviton")
    also_here = a_run(tmp_path / "also", seed=1)
    page, *figures = write_report([here, there, also_here], tmp_path / "all.html")
    assert {f.name.split("-layer")[0][:9] for f in figures} == {"machine-1", "machine-2"}
    parts = page.read_text().split("<section")[1:]
    assert len(parts) == 2
    assert "Graviton" in parts[1]
    assert "Graviton" not in parts[0]
    assert "9654" not in parts[1]
    assert "here: best so far" in parts[0]
    assert "also: best so far" in parts[0]
    assert "best so far" in parts[1]
    assert "their times do not compare" in page.read_text()


def test_runs_of_one_machine_stand_side_by_side(tmp_path):
    """A column for each in the settings, and what differs is marked; a run given twice is one."""
    one, other = a_run(tmp_path / "one"), a_run(tmp_path / "other", seed=1)
    page = page_of(one, other, one, out=tmp_path / "p.html")
    text = page.text
    assert '<th scope="col">one</th><th scope="col">other</th>' in text
    assert '<th scope="row">seed ≠</th><td>0</td><td>1</td>' in text
    assert '<th scope="row">network</th>' in text
    assert "2 runs." in text


def test_equal_folder_names_are_told_apart(tmp_path):
    """Two runs called `run` go by their paths."""
    one, other = a_run(tmp_path / "a" / "run"), a_run(tmp_path / "b" / "run")
    text = page_of(one, other, out=tmp_path / "p.html").text
    assert f'<th scope="col">{one}</th>' in text


def test_a_function_is_reported_by_its_own_values(tmp_path):
    """What `tune_function` kept: text and switches come back as such."""
    run = a_function_run(tmp_path / "run")
    page = page_of(run)
    best = '{\n  "block": 128,\n  "order": "ikj",\n  "fast": true\n}'
    assert page.texts[best] == 1
    assert "executions per second" in page.text
    failed = dataclasses.replace(measured(4, task="matmul"), config=FIRST_CHOICES)
    Journal(run, Provenance()).append([failed])
    assert page_of(run).texts['{"block": 32, "order": "ijk", "fast": false}'] == 1


def test_old_runs_have_no_rounds(tmp_path):
    """A folder from before rounds were kept has a report without them."""
    text = page_of(a_run(tmp_path / "run", rounds=0)).text
    assert "Candidates, clusters and samples" not in text
    assert "What was learned" not in text


def test_without_an_agent_the_page_says_so(tmp_path):
    """Rounds of another explorer, without clusters, have their candidates and best scores."""
    run = a_run(tmp_path / "run", rounds=0)
    bare = {"wave_scores": (), "entropy": (), "value_loss": (), "policy_loss": (), "clusters": ()}
    RoundJournal(run).append(dataclasses.replace(round_(1), **bare))
    text = page_of(run).text
    assert "No agent walked here" in text
    assert "Best predicted score" in text
    assert "in 9 clusters" not in text


@pytest.mark.parametrize("made", ["nothing", "empty", "other json", "a list"])
def test_what_is_no_run_is_refused_with_the_remedy(tmp_path, made, capsys):
    """Exit code 2, the folder's name, and where run folders are named."""
    folder = tmp_path / "run"
    if made != "nothing":
        folder.mkdir()
    if made in {"other json", "a list"}:
        (folder / "run.json").write_text('{"name": 1}' if made == "other json" else "[1]")
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(folder)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert str(folder) in said
    assert "run" in said
    assert not (folder / "report.html").exists()


def test_one_bad_folder_among_good_ones_writes_nothing(tmp_path):
    """All runs are read before anything is written."""
    good = a_run(tmp_path / "good")
    with pytest.raises(RunFolderError, match="not a run folder"):
        write_report([good, tmp_path / "bad"], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize("name", ["page", "page.txt", "folder.html"])
def test_a_place_that_will_not_do_is_refused(tmp_path, name):
    """Not HTML, or a folder: said before anything is written."""
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(SettingsError, match=r"ends in \.html"):
        write_report([a_run(tmp_path / "run")], tmp_path / name)


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path):
    """A file where the figures' folder should be."""
    (tmp_path / "p").write_text("in the way")
    with pytest.raises(SettingsError, match=r"cannot be written there.*-o FILE\.html"):
        write_report([a_run(tmp_path / "run")], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    """`-o` names the page; figures lie beside it in a folder of the same name."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", str(a_run(tmp_path / "run")), "-o", str(tmp_path / "new" / "p.html")])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'new' / 'p.html'}, and ")
    assert list((tmp_path / "new" / "p").glob("*.svg"))


def test_a_second_report_takes_the_place_of_the_first(tmp_path):
    """A report in the run's folder does not end up in the next one, nor keep it from going on."""
    run = a_run(tmp_path / "run")
    first = write_report([run])
    assert write_report([run]) == first
    assert not list(run.rglob("*.tmp"))


def test_a_plane_keeps_the_distances_that_fit_on_it():
    """Points of two dimensions lie as they did, turned; other points follow them."""
    rng = np.random.default_rng(0)
    flat = np.zeros((30, 5))
    flat[:, [1, 3]] = rng.normal(size=(30, 2))
    (points, others), shares = project(flat, flat[:4])
    np.testing.assert_allclose(points[:4], others)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(points[:, None] - points[None], axis=2), apart)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] >= shares[1]


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (2, 2)])
def test_planes_of_few_points_or_knobs(shape):
    """Too little for two axes is still a place on a plane."""
    (points, others), shares = project(np.ones(shape), np.ones((1, shape[1])))
    assert points.shape == (shape[0], 2)
    assert np.isfinite([*points.ravel(), *others.ravel(), *shares]).all()


numbers = st.floats(-1e12, 1e12, allow_subnormal=False)


@given(st.lists(numbers, max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_an_axis_holds_its_values_and_few_labels(values, zero, log, whole):
    """Every value that can be shown lies between the ends, and so does every label."""
    scale = Scale.over(values, start=10, end=110, zero=zero, log=log, whole=whole)
    shown = [v for v in values if v > 0 or not log]
    assert all(10 - 1e-6 <= scale.place(v) <= 110 + 1e-6 for v in shown)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(10 - 1e-3 <= scale.place(t) <= 110 + 1e-3 for t in ticks)
    assert ticks == sorted(ticks)


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def browse(page, *options):
    """Open a page in a browser without a window."""
    profile = f"--user-data-dir={page.parent / 'profile'}"
    return subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", profile, *options, page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def corner(picture):
    """Red, green and blue of the upper left pixel of a PNG, without alpha or with it."""
    data, at, packed = picture.read_bytes(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + length] * (kind == b"IDAT")
        at += 12 + length
    return tuple(zlib.decompress(packed)[1:4])  # no filter changes the first pixel


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_prints_it_on_pages(tmp_path):
    """What comes out is a PDF of more than one page."""
    page, *_ = write_report([a_run(tmp_path / "run")])
    printed = tmp_path / "page.pdf"
    browse(page, f"--print-to-pdf={printed}")
    data = printed.read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) > 1


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_in_dark_mode_shows_it_dark(tmp_path):
    """The paper's colour is that of the mode."""
    page, *_ = write_report([a_run(tmp_path / "run")])
    colours = []
    for scheme in (0, 1):  # Blink's numbers: dark, light
        picture = tmp_path / f"{scheme}.png"
        wanted = f"--blink-settings=preferredColorScheme={scheme}"
        browse(page, wanted, "--window-size=800,600", f"--screenshot={picture}")
        colours.append(corner(picture))
    assert colours == [(0x14, 0x18, 0x1D), (0xFF, 0xFF, 0xFF)]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_runs_its_script_and_shows_its_charts(tmp_path):
    """The copy buttons are there, so the policy lets the script run; nothing else was asked for."""
    page, *_ = write_report([a_run(tmp_path / "run")])
    done = browse(page, "--dump-dom", "--enable-logging=stderr")
    buttons = re.findall(r"<button[^>]*>", done.stdout)
    assert buttons
    assert not [b for b in buttons if "hidden" in b]
    assert "CONSOLE" not in done.stderr


def test_the_page_needs_no_ray():
    """What writes it imports neither ray nor torch, and so starts at once."""
    code = (
        "import sys, chameleon_ray.page.write; "
        "sys.exit(bool({'ray', 'torch', 'tvm', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
