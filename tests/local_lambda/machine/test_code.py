"""The function's code as a ZIP file, and how large it may be together with the layers."""

import zipfile
from pathlib import Path

import pytest

from local_lambda.errors import EmulatorError, InvalidCode, InvalidLayer
from local_lambda.machine import code as module
from local_lambda.machine.code import check_size, unpacked
from local_lambda.machine.layers import Opt


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_directory_is_used_as_it_is(tmp_path: Path) -> None:
    with unpacked(tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.is_dir()


def test_a_zip_file_is_unpacked_and_gone_at_the_end(tmp_path: Path) -> None:
    code = zip_of(tmp_path / "code.zip", {"app.py": b"x = 1\n", "inner/data.txt": b"y"})
    with unpacked(code) as folder:
        assert (folder / "app.py").read_text() == "x = 1\n"
        assert (folder / "inner" / "data.txt").read_text() == "y"
        assert folder.stat().st_mode & 0o77 == 0, "private"
    assert not folder.exists()
    assert code.exists()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../outside.txt": b""}, "has a member outside of its own directory: ../outside.txt"),
        ({"/etc/outside.txt": b""}, "has a member outside of its own directory: /etc/outside.txt"),
        (None, "cannot be unzipped: File is not a zip file"),
    ],
)
def test_a_bad_zip_file_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes] | None, words: str
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    code = tmp_path / "code.zip"
    if members is None:
        code.write_text("not one")
    else:
        zip_of(code, members)
    with pytest.raises(InvalidCode, match=rf"The function's code {code} {words}"), unpacked(code):
        pass
    assert list(tmp_path.iterdir()) == [code]


def test_code_and_layers_are_measured_together_and_the_largest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNZIPPED_BYTES", 3_000_000)
    code = tmp_path / "code"
    (code / ".venv").mkdir(parents=True)
    (code / "app.py").write_bytes(bytes(1_000_000))
    (code / ".venv" / "large").write_bytes(bytes(5_000_000))  # nobody deploys it
    layer = zip_of(tmp_path / "layer.zip", {"python/data": bytes(1_500_000)})
    check_size(code, [layer])
    with pytest.raises(InvalidCode, match=rf"are 4 MB unzipped; Lambda allows 250\. The largest is {layer} with 1 MB"):
        check_size(code, [layer, zip_of(tmp_path / "other.zip", {"python/data": bytes(1_200_000)})])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"mine/extensions/mine": b"", "mine/lib.py": b""},
            "mine/extensions/mine lies too deep: pack what is in mine/",
        ),
        ({"mine/extensions/mine": b"", "__MACOSX/mine": b""}, "no extensions/ at its root"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_extensions_that_lie_too_deep_are_not_passed_over(
    tmp_path: Path, members: dict[str, bytes], words: str, packed: bool
) -> None:
    layer = zip_of(tmp_path / "layer.zip", members)
    if not packed:
        with zipfile.ZipFile(layer) as archive:
            archive.extractall(tmp_path / "layer")
        layer = tmp_path / "layer"
    with pytest.raises(InvalidLayer, match=words):
        Opt(None, [layer])


@pytest.mark.parametrize(
    "members",
    [
        {"extensions/mine": b""},
        {"python/extensions/mine.py": b""},
        {"mine/extensions/mine": b"", "bin/tool": b""},
        {"mine/lib/extensions/mine": b""},
    ],
)
def test_a_layer_may_have_such_a_folder_elsewhere(tmp_path: Path, members: dict[str, bytes]) -> None:
    try:
        opt = Opt(None, [zip_of(tmp_path / "layer.zip", members)])
    except EmulatorError as error:
        pytest.fail(str(error))
    opt.remove()
