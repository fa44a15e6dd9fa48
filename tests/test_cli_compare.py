"""`compare` on the command line: what is parsed, refused, printed."""

import json

import pytest

from chameleon_ray import cli
from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.errors import SettingsError


def run(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["compare", *map(str, arguments)])
    return caught.value.code or 0


@pytest.fixture
def path(tmp_path):
    """A recorded space of twenty configs."""
    cache = {str(a): {"a": a, "time": 1.0 + abs(a - 7)} for a in range(20)}
    file = tmp_path / "line_cpu.json"
    file.write_text(json.dumps({"tune_params": {"a": list(range(20))}, "cache": cache}))
    return file


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (3,)), ("0-3", (0, 1, 2, 3)), ("5,0-1, 9", (5, 0, 1, 9))]
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    """In the order given."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "3-1", "a", "1-", "-1", "1,1", "0-2,1", "0-99999999", "1.5"])
def test_what_is_no_seed_is_refused(text):
    """With the option's name and an example."""
    with pytest.raises(SettingsError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--space", "x.json", "--network", "resnet18"], "one of them"),
        (["--layers", "1"], "--network"),
        (["--network", "resnet18", "--layers", ""], "--layers: no layer is named"),
        (["--layers", ""], "--layers and --env belong to --network"),
        (["--seeds", ""], "--seeds: '' is no seed"),
        (["--seeds", "5-1"], "upside down"),
        (["--policy", "nonesuch", "--space", "PATH"], "unknown policy"),
        (["--space", "nowhere.json"], "nowhere.json"),
        (["--network", "resnet19"], "unknown network"),
        (["--network", "resnet18", "--policy", "random", "--policy", "random"], "stands twice"),
        (["--space", "PATH", "--space", "PATH"], "stands twice"),
        (
            ["--space", "PATH", "--learn-from", "layers"],
            "--learn-from layers: a recorded space is one",
        ),
        (["--network", "resnet18", *["--learn-from", "layers"] * 2], "give it alone"),
        (["--trials", "0"], "0"),
        (["--share", "95"], "less than or equal to 1"),
    ],
)
def test_bad_input_is_refused_before_work_begins(arguments, told, path, tmp_path, capsys):
    """With code 2, a line that names it, and no folder."""
    given = [str(path) if argument == "PATH" else argument for argument in arguments]
    assert run(*given, "--out", tmp_path / "out") == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_comparison_is_printed_and_is_one_object(path, tmp_path, capsys):
    """Scores of both policies, the difference's p and n; with --json alone on stdout."""
    given = ["--space", path, "--policy", "random", "--policy", "genetic"]
    given += ["--seeds", "0-2", "--trials", "20", "--out", tmp_path / "out"]
    assert run(*given, "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    (table,) = found["tables"]
    assert [row["policy"] for row in table["rows"]] == ["random", "genetic"]
    assert table["points"] == [16, 20]
    assert table["rows"][0]["scores"][1]["mean"] == 1.0  # all twenty were measured
    assert table["rows"][1]["differences"][0]["n"] == 3
    assert "line_cpu, 3 seeds" in printed.err
    assert run(*given, "--share", "0.5") == 0
    printed = capsys.readouterr().out
    assert "genetic" in printed
    assert "to 50%" in printed


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_layers_are_tuned_live_and_timed_in_turns(tmp_path, capsys):
    """Each policy in its own run folder; the fastest of all runs is the reference; gone on with."""
    given = ["--network", "resnet18", "--layers", "2,5", "--env", "simulated", "--seeds", "0,1"]
    given += ["--policy", "random", "--policy", "genetic", "--trials", "16"]
    given += ["--out", tmp_path / "out", "--json"]
    assert run(*given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["searches"] == 8
    assert "in turns" in found["reference"]
    assert [table["space"] for table in found["tables"]][:2] == ["resnet18-2", "resnet18-5"]
    assert len(list((tmp_path / "out").glob("*/run.json"))) == 4
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    assert run(*given) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    retimed = json.loads((tmp_path / "out/retimed.json").read_text())
    given[given.index("16")] = "48"  # the runs go on, find better, and the better are timed anew
    assert run(*given) == 0
    longer = json.loads((tmp_path / "out/retimed.json").read_text())
    for layer in ("resnet18-2", "resnet18-5"):
        assert longer[layer]["of"] != retimed[layer]["of"]
        assert min(longer[layer]["seconds"].values()) < min(retimed[layer]["seconds"].values())


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_layers_that_learn_from_each_other_beside_cold_ones(tmp_path, capsys):
    """`--learn-from layers`: nothing measured before; only in the warm run are there lessons."""
    given = ["--network", "resnet18", "--layers", "2,5", "--env", "simulated", "--seeds", "0"]
    given += ["--policy", "chameleon", "--trials", "32", "--learn-from", "layers"]
    assert run(*given, "--out", tmp_path / "out", "--json") == 0
    table = json.loads(capsys.readouterr().out)["tables"][-1]
    assert [row["policy"] for row in table["rows"]] == ["chameleon", "chameleon, warm"]
    taught = {p.parent.name for p in (tmp_path / "out").glob("*/lessons-*.parquet")}
    runs = {p.parent.name for p in (tmp_path / "out").glob("*/run.json")}
    assert len(runs) == 2
    assert len(taught) == 1
