"""Folders of this machine and of stores: the same operations, and errors that name the remedy."""

import subprocess
import sys

import pytest

from chameleon_ray.errors import RunFolderError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.records import Journal, Provenance, read_records
from chameleon_ray.run_folder import RunFolder
from chameleon_ray.storage import open_folder
from chameleon_ray.store import shown

M = Measurement(task="t", config={"a": (1,)}, purpose=Purpose.SEARCH, outcome=Outcome.CRASHED)


@pytest.fixture(params=["path", "file", "s3", "fsspec"])
def place(request, tmp_path, store):
    """A folder that is not there, of each kind."""
    places = {
        "path": tmp_path / "runs" / "mine",
        "file": (tmp_path / "runs of mine" / "mine").as_uri(),
        "s3": store.url("runs/mine"),
        "fsspec": f"memory://{tmp_path.name}/runs/mine",
    }
    return places[request.param]


def test_every_folder_does_the_same(place):
    """Made, written, listed, read, renamed, written over, removed, and gone."""
    folder = open_folder(place)
    assert (folder.kind(), folder.names(), folder.title) == ("", [], "mine")
    folder.make()
    folder.make()
    folder.write("b.parquet", b"1")
    folder.write("a", b"")
    assert (folder.kind(), folder.names()) == ("folder", ["a", "b.parquet"])
    folder.rename("b.parquet", "b.parquet.damaged")
    folder.write("a", b"22")
    assert folder.read("a") == b"22"
    assert folder.read("b.parquet.damaged") == b"1"
    again = open_folder(folder.address)
    assert again.names() == ["a", "b.parquet.damaged"]
    again.remove("a")
    assert folder.names() == ["b.parquet.damaged"]
    with pytest.raises(FileNotFoundError):
        folder.read("a")
    folder.discard()
    assert (folder.kind(), folder.names()) == ("", [])


def test_a_file_is_no_folder(place):
    """Wherever it lies."""
    folder = open_folder(place)
    folder.make()
    folder.write("file", b"1")
    of_file = f"{folder.address}/file"
    if "?" in of_file:
        of_file = folder.address.replace("?", "/file?")
    assert open_folder(of_file).kind() == "file"


def test_journals_are_the_same_everywhere(place):
    """Appended, merged, and gone on with; what is damaged is set aside and named."""
    journal = Journal(place, Provenance())
    written = [record for _ in range(40) for record in journal.append([M] * 2)]
    assert read_records(place) == (written, [])
    folder = open_folder(place)
    assert len(folder.names()) < 20
    victim = folder.names()[-1]
    folder.write(victim, folder.read(victim)[:50])
    assert read_records(place) == (written[:-2], [victim])
    going_on = Journal(place, Provenance())
    assert going_on.records() == written[:-2]
    assert going_on.damaged == [f"{victim}.damaged"]
    assert going_on.append([M])[0].job == 81


def test_on_a_store_nobodys_parts_are_written_over(store):
    """Two writers that no lease keeps apart: one is told, and nothing is lost."""
    place = store.url("runs/mine")
    first, second = Journal(place, Provenance()), Journal(place, Provenance())
    first.append([M])
    second.append([M])
    with pytest.raises(RunFolderError, match=r"another process has written records-00000002"):
        first.append([M] * 3)
    assert [record.job for record in read_records(place)[0]] == [1, 2]
    second.append([M])


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://bucket?region=x", r"name a folder too, as in s3://bucket/runs/mine"),
        ("s3://bucket/run?colour=red&region=x", r"colour"),
        ("nowhere://bucket/run", r"nowhere.*s3://, gs://"),
        ("file://run", r"three slashes"),
    ],
)
def test_urls_that_cannot_be_opened(place, message):
    """The message says what is wrong with them."""
    with pytest.raises(RunFolderError, match=message):
        open_folder(place)


def test_passwords_are_not_shown():
    """A URL may hold some; messages and results do not."""
    assert shown("s3://key:secret@bucket/run?region=x") == "s3://bucket/run?region=x"
    assert shown("gs://anonymous@bucket/run") == "gs://anonymous@bucket/run"
    assert shown("abfs://c@a/run?account_key=abc%3D&x=1") == "abfs://c@a/run?account_key=***&x=1"
    assert shown("az://run?x=1&SAS_token=a%26b") == "az://run?x=1&SAS_token=***"
    assert open_folder("s3://key:secret@bucket/run?region=x").name == "s3://bucket/run?region=x"
    with pytest.raises(RunFolderError) as caught:
        open_folder("s3://key:secret@bucket/run?colour=red&region=x")
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there(store):
    """Writing names it; reading finds no run."""
    with pytest.raises(RunFolderError, match=r"Bucket 'none' not found.*Check that the bucket"):
        RunFolder(store.url("mine", bucket="none"))
    with pytest.raises(RunFolderError, match=r"cannot keep records there.*Check that the bucket"):
        Journal(store.url("mine", bucket="none"), Provenance()).append([M])
    assert read_records(store.url("mine", bucket="none")) == ([], [])


def test_credentials_that_are_not_good_enough(store):
    """What was appended before is there; the message speaks of credentials."""
    journal = Journal(store.url("mine"), Provenance())
    journal.append([M])
    store.refuse()
    for use in (journal.records, lambda: journal.append([M]), lambda: RunFolder(store.url("mine"))):
        with pytest.raises(RunFolderError, match=r"s3://measured/mine.* AWS .*credentials"):
            use()


def test_importing_it_is_cheap():
    """The command line does it."""
    code = "import sys; from chameleon_ray.storage import open_folder; open_folder('x'); "
    code += "sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
