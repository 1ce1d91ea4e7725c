"""The rules of the house that a machine can check: which way imports run, and what no room may contain."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A room may import from the rooms of lower rank, and from itself. Rooms of one rank do not know each other.
RANK = {
    **{"options": 0, "softmax_splatting": 0},
    **{"data": 1},
    **{"painters": 2, "img2img": 2, "models": 2, "jobs": 2, "pages": 2},
    **{"dataset": 3, "pipeline": 3},
    **{"evaluate": 4},
    **{"mini": 5},
    **{"demo": 6, "benchmarks": 6},
}
PACKAGE = "text2cinemagraph"
SCRIPTS = ("inference_t2c", "train_motion", "train_video", "test_motion", "test_video")
SOURCES = [
    p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] in RANK or p.stem in SCRIPTS and p.parent == ROOT
]


def imported(path):
    """Names of the modules a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_sources_are_found():
    assert len(SOURCES) > 20
    assert {p.relative_to(ROOT).parts[0] for p in SOURCES} >= {
        "options",
        "data",
        "img2img",
        "models",
        "inference_t2c.py",
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        own = name.split(".")[0] == PACKAGE
        assert own or name.split(".")[0] not in {*RANK, *SCRIPTS}, f"{path.name}: write {PACKAGE}.{name}"
        other = name.split(".")[1] if own and "." in name else ""
        # The pages and measures run the pipeline as a user does.
        may = other == "inference_t2c" and room in ("benchmarks", "demo", "evaluate", "mini")
        assert other not in SCRIPTS or may, f"{path.name} imports the script {other}"
        assert other != "tests", f"{path.name} imports the tests"
        if other in RANK and other != room:
            assert room not in RANK or RANK[other] < RANK[room], f"{path.relative_to(ROOT)} imports {name}, uphill"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_forbidden_lines(path):
    room, text = path.relative_to(ROOT).parts[0], path.read_text()
    assert ".cuda(" not in text
    assert not re.search(r"except\s*:", text)
    assert not re.search(r"sys\.path\.(append|insert)", text)
    if room not in ("mini", "benchmarks"):
        code = "\n".join(line.split("#")[0] for line in text.splitlines())
        assert not re.search(r"\bmini\b", re.sub(r'""".*?"""', "", code, flags=re.S)), (
            "a tier is a YAML and a folder, never code"
        )
    if room in ("models", "img2img"):
        assert not re.search(r"""["']cuda""", text), "the runtime decides the device"
    if room in RANK and "__main__" not in text and room != "options" and path.name != "command_line.py":
        assert "argparse" not in text and "sys.argv" not in text


def test_no_room_for_odds_and_ends():
    names = {p.stem for p in SOURCES} | {p.parent.name for p in SOURCES}
    assert not names & {"util", "utils", "helper", "helpers", "manager", "misc", "common"}


def test_every_public_function_is_documented():
    bare = []
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in ("options", "softmax_splatting", "data", "img2img", "models", "evaluate"):
            tree = ast.parse(path.read_text())
            if tree.body and not ast.get_docstring(tree):
                bare.append(f"{path.relative_to(ROOT)}: the module")
            bare += [
                f"{path.relative_to(ROOT)}: {n.name}"
                for n in tree.body
                if isinstance(n, (ast.FunctionDef, ast.ClassDef))
                and not n.name.startswith("_")
                and not ast.get_docstring(n)
            ]
    assert not bare, bare


def public_functions(room):
    """(file, definition, its arguments without self) of a room's public functions and methods."""
    for path in sorted((ROOT / room).glob("*.py")):
        tree = ast.parse(path.read_text())
        for parent in (tree, *(n for n in tree.body if isinstance(n, ast.ClassDef))):
            for n in parent.body:
                if isinstance(n, ast.FunctionDef) and (not n.name.startswith("_") or n.name == "__init__"):
                    arguments = [a for a in (*n.args.posonlyargs, *n.args.args) if a.arg not in ("self", "cls")]
                    yield path, n, arguments


@pytest.mark.parametrize("room", [".", *RANK])
def test_public_functions_are_annotated_and_take_few_arguments_by_position(room):
    found = list(public_functions(room))
    bare = [
        f"{path.name}: {n.name}"
        for path, n, arguments in found
        if n.returns is None or not all(a.annotation for a in (*arguments, *n.args.kwonlyargs))
    ]
    assert found and not bare
    assert not [f"{path.name}: {n.name}" for path, n, arguments in found if len(arguments) > 4]


@pytest.mark.parametrize("where", [[], ["."]])
def test_root_scripts_are_not_collected_as_tests(where, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for name in ("test_motion.py", "test_video.py", "tests/test_one.py"):
        (tmp_path / name).write_text("def test_something(): pass\n")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", *where],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert re.findall(r"^(\S+)::", found.stdout, re.M) == ["tests/test_one.py"], found.stdout


def test_tracked_files_stay_small():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    files = [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    assert not [f for f in files if f.stat().st_size > 16 * 2**20]
    assert sum(f.stat().st_size for f in files if "checkpoints/mini" in f.as_posix()) <= 40 * 2**20
