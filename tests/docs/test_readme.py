"""README, docs, image and CI agree with the program."""

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from vl3d_lite.cli.app import app
from vl3d_lite.errors import VL3DError
from vl3d_lite.geometry.open3d import SYSTEM_PACKAGES
from vl3d_lite.spec.reader import read_spec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMMANDS_PAGE = (ROOT / "docs/commands.md").read_text()
PAGES = [
    *(ROOT / page for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
COMMANDS = typer.main.get_command(app).commands
# A command and its arguments, up to the end of the line.
CALL = re.compile(
    r"(?:^|[\s`/])vl3d-lite(?::\w+|\.sif)?[ ]+([a-z]+)(?=[\s`]|$)([^`\n;|&#>]*)"
)


def name(value):
    return value.name if isinstance(value, Path) else None


def marked(kind):
    """The command in the README's block of this kind."""
    found = re.search(
        rf"<!-- ci:{kind} -->\n```sh\n(.+)\n```\n<!-- /ci:{kind} -->", README
    )
    assert found, f"README has no block `{kind}` of one line"
    return found[1]


def blocks(page, language):
    text = page.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def calls(text):
    return CALL.findall(text.replace("\\\n", " "))


def installs(text):
    """What each ``pip install`` of a text installs."""
    return re.findall(r"pip install ((?:-e )?(?:\"[^\"]+\"|\.))", text)


@pytest.mark.parametrize("kind", ["quickstart", "test"])
def test_a_command_needs_nothing_but_python(kind):
    first, second, *_ = marked(kind).split(" && ")
    assert first == "python3 -m venv .venv"
    assert second.startswith(".venv/bin/pip install ")


def test_the_quickstart_runs_the_shipped_spec():
    assert marked("quickstart").endswith("vl3d-lite run configs/quickstart.yaml")


def test_the_tests_run_on_both_backends():
    steps = marked("test").split(" && ")[2:]
    assert [step.partition(".venv")[0].strip() for step in steps] == [
        "",
        "KERAS_BACKEND=jax",
    ]
    assert all(".venv/bin/python -m pytest" in step for step in steps)
    assert steps[1].endswith(" tests/model/layers")


def test_ci_runs_the_command_of_the_readme():
    shown = subprocess.run(
        [ROOT / ".ci/run", "--show"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == marked("test")


def test_ci_stops_at_the_first_failure_and_runs_ruff_and_mypy():
    text = (ROOT / ".ci/run").read_text()
    assert "set -euo pipefail" in text
    assert ".venv/bin/ruff check ." in text
    assert ".venv/bin/ruff format --check ." in text
    assert ".venv/bin/mypy" in text


def test_the_image_installs_the_packages_of_the_readme():
    in_readme, in_image = set(installs(README)), installs(DOCKERFILE)
    assert in_image == [".", '".[gpu]"']
    assert set(in_image) <= in_readme


def test_every_extra_that_is_named_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    text = README + DOCKERFILE + "".join(page.read_text() for page in PAGES)
    named = {e for found in installs(text) for e in re.findall(r"\[(\w+)\]", found)}
    assert named == {"cluster", "docs", "test", "gpu", "tensorboard"}
    assert set(extras) == named | {"jax", "torch"}
    (own,) = (need for need in extras["test"] if need.startswith(project["name"]))
    assert set(re.findall(r"[a-z]+(?=[,\]])", own)) <= set(extras)


def test_the_image_has_the_libraries_open3d_loads():
    line = re.search(r"--no-install-recommends (.+) \\\n", DOCKERFILE)[1]
    assert line == SYSTEM_PACKAGES


def test_the_image_runs_the_program_as_a_common_user():
    assert 'ENTRYPOINT ["vl3d-lite"]' in DOCKERFILE
    last = {
        stage: re.findall(r"^USER (.+)$", stage, re.MULTILINE)[-1]
        for stage in DOCKERFILE.split("\nFROM ")[1:]
    }
    assert set(last.values()) == {"1000:1000"}


def test_the_image_copies_what_the_build_needs():
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"}
    shipped = {"vl3d_lite", "configs", "models", "data/town_*.laz"}
    assert set(kept) == needed | shipped
    assert all(list(ROOT.glob(path)) for path in kept)


def test_the_table_of_commands_is_complete():
    listed = re.findall(r"^\| `(\w+)` \| .* \| `vl3d-lite ", COMMANDS_PAGE, re.M)
    assert listed == [name for name, each in COMMANDS.items() if not each.hidden]


def test_the_table_of_exit_codes_is_complete():
    codes = set(re.findall(r"^\| ([\d, ]+) \|", COMMANDS_PAGE, re.M))
    codes = {int(code) for row in codes for code in row.split(",")}
    errors = {
        error.exit_code
        for error in VL3DError.__subclasses__()
        if "exit_code" in vars(error)
    }
    assert codes == {0, 1, 130, 143} | errors


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_blocks_can_be_typed(page):
    for block in blocks(page, "sh"):
        for command, rest in calls(block):
            assert command in COMMANDS, f"vl3d-lite {command}"
            # This raises if an option is unknown or an argument is missing.
            COMMANDS[command].make_context(command, shlex.split(rest))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_the_text_exist(page):
    for command, rest in calls(page.read_text()):
        assert command in COMMANDS, f"vl3d-lite {command}"
        parameters = COMMANDS[command].params
        known = {o for p in parameters for o in (*p.opts, *p.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known | {"--help"}, rest


def test_commands_are_found_in_text_and_blocks():
    text = "`vl3d-lite run a.yaml`\n vl3d-lite:gpu predict R \\\n  c.laz | x\n"
    text += "vl3d-lite.sif check s # vl3d-lite is\n"
    assert [(command, rest.split()) for command, rest in calls(text)][:3] == [
        ("run", ["a.yaml"]),
        ("predict", ["R", "c.laz"]),
        ("check", ["s"]),
    ]


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/index.md").read_text()
    pages = [
        path
        for path in sorted((ROOT / "docs").iterdir())
        if path.suffix in {".md", ".json", ".ipynb"} and path.name != "index.md"
    ]
    assert len(pages) > 20
    for page in pages:
        assert f"]({page.name})" in index, page.name


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_shipped_spec_is_short_and_valid(path):
    read_spec(path, check_files=False)
    assert len(path.read_text().splitlines()) <= 60


def test_the_spec_of_the_readme_is_valid(tmp_path):
    (block,) = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "town.yaml").write_text(block)
    spec = read_spec(tmp_path / "town.yaml", check_files=False).spec
    assert spec.class_names == ["ground", "vegetation", "building"]
    assert len(block.splitlines()) <= 20


def test_the_specs_of_own_scans_are_valid(tmp_path):
    whole, *others = blocks(ROOT / "docs/own-scans.md", "yaml")
    (tmp_path / "docs").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs/town.yaml").write_text(whole)
    read_spec(tmp_path / "docs/town.yaml", check_files=False)
    assert len(others) == 2
    for block in others:  # without the sections that do not matter there
        text = f"extends: town.yaml\n{block}"
        (tmp_path / "docs/other.yaml").write_text(text)
        read_spec(tmp_path / "docs/other.yaml", check_files=False)


def texts_of_the_program():
    """Every string of the source; inserted values become line feeds."""
    for path in (ROOT / "vl3d_lite").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = (p.value for p in node.values if isinstance(p, ast.Constant))
                yield "\n".join(parts)
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
            ):
                yield node.value


@pytest.mark.slow
def test_explained_messages_exist():
    texts = set(texts_of_the_program())
    page = (ROOT / "docs/troubleshooting.md").read_text()
    heads = re.findall(r"^- \*\*(.+?)\*\*:", page, re.M | re.S)
    messages = [m for head in heads for m in re.findall(r"`([^`]+)`", head)]
    assert page.count("*Remedy*:") == len(heads)
    assert len(messages) > 50
    for message in messages:
        parts = [part.strip() for part in message.split("…")]
        assert any(all(p in text for p in parts) for text in texts), message


def test_architecture_lists_the_packages():
    page = (ROOT / "docs/architecture.md").read_text()
    entries = page.partition("## Packages")[2].partition("\n## ")[0]
    listed = re.findall(r"^- `(\w+)`: ", entries, re.M)
    folders = {path.parent.name for path in (ROOT / "vl3d_lite").glob("*/__init__.py")}
    assert len(listed) == len(set(listed)) == 15
    assert set(listed) == folders


def test_the_manifest_agrees_with_the_pages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert project["readme"] == "README.md"
    assert "Python 3.11" in README
    assert project["requires-python"] == ">=3.11"


def test_the_readme_is_short_and_starts_with_a_picture():
    assert len(README.splitlines()) <= 100
    first, second, third = README.split("\n\n")[:3]
    assert first == "# vl3d-lite"
    assert second.count(". ") == 0
    assert third.endswith("(docs/pictures/report.jpg)")
    assert (ROOT / "docs/pictures/report.jpg").stat().st_size < 400_000


def test_the_readme_counts_test_scores_as_the_results_do():
    results = (ROOT / "docs/results.md").read_text()
    rows = re.findall(r"^\| (\w+)[^|]*\| (\d+) \|[^|]*\|$", results, re.M)
    counts = dict(rows)
    assert len(counts) == 6
    shown = re.findall(r"^\| (\w+) airborne,.* \| (\d+) \|$", README, re.M)
    assert shown == [(kind, counts[kind]) for kind in ("dense", "tropical", "sparse")]
    assert f"Amsterdam was scored {counts['Amsterdam']} times" in README


def test_the_forms_ask_for_the_doctor():
    for path in ("ISSUE_TEMPLATE/bug.yml", "pull_request_template.md"):
        assert "vl3d-lite doctor" in (ROOT / ".github" / path).read_text()


def test_the_workflow_runs_ci_on_all_supported_versions():
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert "- run: .ci/run\n" in workflow
    manifest = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = [
        text.rpartition(" ")[2]
        for text in manifest["project"]["classifiers"]
        if re.search(r"Python :: 3\.\d+$", text)
    ]
    assert f"python: {listed}".replace("'", '"') in workflow
