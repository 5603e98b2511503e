"""The shape of the package, read from its syntax trees: who may import whom, and what is not done at all."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "telemetry_forwarder"
ROOT = "telemetry_forwarder"
# Projects of their own that live beside it: none of the three knows another, but for the demo.
BESIDE = ("local_lambda", "local_backends")

# Who imports whom: a room, which is a folder or a module of the package's root, imports from the rows before its own,
# and of its own row nothing but itself. "" is the package's own version.
ROWS: tuple[tuple[str, ...], ...] = (
    ("", "variables"),
    ("errors", "clock", "log"),
    ("records", "turns"),
    ("interfaces", "foreign", "aws_errors", "aws_regions", "http_serving", "signals", "otlp"),
    ("ledger", "spool", "sinks", "transports"),
    ("intake", "delivery", "lambda_api", "secrets", "plugin", "usage"),
    ("lifecycle", "failover", "testing"),
    ("settings",),
    ("wiring",),
    ("replay",),
    ("cli",),
    ("app", "bootstrap", "__main__"),
)
NETWORK = ("aiohttp", "aiobotocore", "botocore")
MAY_USE_NETWORK = (
    "http_serving",
    "transports*",
    "intake.http_server",
    "intake.otlp_server",
    "lambda_api*",
    "secrets*",
    "failover*",
    "replay*",
    "cli*",
)
MAY_SEE_ENVIRONMENT = (
    "__main__",
    "cli*",
    "replay.function",
    "transports.aws_environment",
)  # the last as the AWS SDK does
LONGEST_FILE = 400


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
each_module = pytest.mark.parametrize("name", MODULES)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Say whether `name` is one of `patterns`; `x*` is a folder and all that is in it, `!` excludes."""
    found = False
    for pattern in patterns:
        folder = pattern.lstrip("!").removesuffix("*")
        is_inside = pattern.endswith("*") and (folder == "" or name == folder or name.startswith(folder + "."))
        if is_inside or fnmatchcase(name, pattern.lstrip("!")):
            found = not pattern.startswith("!")
    return found


def row_of(name: str) -> int:
    return next((number for number, row in enumerate(ROWS) if name.partition(".")[0] in row), -1)


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST, *, in_functions: bool = True) -> Iterator[str]:
    """Yield the full names that are imported at run time; `from a import b` gives `a.b`."""
    for node in ast.iter_child_nodes(tree):
        if is_for_types_only(node) or (not in_functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node, in_functions=in_functions)


def own_imports(name: str, *, in_functions: bool = True) -> set[str]:
    """Return the modules of the package that `name` imports, without the package's name."""
    found = set()
    for full in imports(TREES[name], in_functions=in_functions):
        if full != ROOT and not full.startswith(ROOT + "."):
            continue
        inner = full[len(ROOT) + 1 :]
        found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return found


@each_module
def test_imports_point_one_way(name: str) -> None:
    assert row_of(name) >= 0, f"{name} is in no row of the table"
    wrong = {one for one in own_imports(name) if not is_below(one, name)}
    assert not wrong, f"{name} imports {sorted(wrong)}"


def is_below(imported: str, importer: str) -> bool:
    there, here = row_of(imported), row_of(importer)
    if importer in LAST:
        return imported in LAST[importer] or 0 <= there < len(ROWS) - 1
    return 0 <= there < here or imported.partition(".")[0] == importer.partition(".")[0]


# In the last row each stands on the one before it.
LAST = {"app": (), "bootstrap": ("app",), "__main__": ("bootstrap",)}


def test_what_runs_before_registration_imports_next_to_nothing() -> None:
    """The user's cold start waits for it; what `bootstrap` loads behind that stands inside its functions."""
    allowed = ("", "variables*", "lambda_api", "lambda_api.registration", "lambda_api.first_event")
    for name in ("bootstrap", "lambda_api.registration", "lambda_api.first_event"):
        met = own_imports(name, in_functions=False)
        assert all(matches(one, allowed) for one in met), f"{name} imports {sorted(met)}"


def test_the_application_is_imported_by_bootstrap_alone() -> None:
    assert not {"app"} & {one for name in MODULES if name not in ("bootstrap", "app") for one in own_imports(name)}


def test_three_packages_know_nothing_of_each_other_but_in_the_demo() -> None:
    packages = (ROOT, *BESIDE)
    for package in packages:
        others = set(packages) - {package}
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            if path in (PACKAGE / "cli" / "demo.py", PACKAGE / "cli" / "demo_backends.py"):
                continue
            met = {full.partition(".")[0] for full in imports(ast.parse(path.read_text()))} & others
            assert not met, f"{path.relative_to(REPOSITORY)} imports {sorted(met)}"


@each_module
def test_only_the_rim_touches_the_network(name: str) -> None:
    used = {full.partition(".")[0] for full in imports(TREES[name])} & set(NETWORK)
    assert not used or matches(name, MAY_USE_NETWORK)


@each_module
def test_only_the_entry_points_see_the_environment(name: str) -> None:
    """Everyone else is given a mapping."""
    seen = [
        node for node in ast.walk(TREES[name])
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and isinstance(node.value, ast.Name)
            and node.value.id == "os")
    ] + [full for full in imports(TREES[name]) if full in ("os.environ", "os.getenv")]  # fmt: skip
    assert not seen or matches(name, MAY_SEE_ENVIRONMENT)


@each_module
def test_value_classes_are_structs(name: str) -> None:
    """`dataclasses` compiles six methods for each class while the function's first invocation waits."""
    assert "dataclasses" not in {one.partition(".")[0] for one in imports(TREES[name])}


def asyncio_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "asyncio":
                yield node


FILES = {
    str(path.relative_to(REPOSITORY)): path
    for package in (ROOT, *BESIDE) for path in sorted((REPOSITORY / package).rglob("*.py"))
}  # fmt: skip
each_file = pytest.mark.parametrize("name", FILES)


@each_file
def test_every_task_has_an_owner(name: str) -> None:
    """`asyncio.create_task` starts what nobody waits for; a TaskGroup's method of that name is another thing."""
    for call in asyncio_calls(ast.parse(FILES[name].read_text())):
        assert ast.unparse(call.func) not in ("asyncio.create_task", "asyncio.ensure_future"), f"line {call.lineno}"


@each_file
def test_nothing_waits_by_asking_again_and_again(name: str) -> None:
    tree = ast.parse(FILES[name].read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While | ast.For | ast.AsyncFor)]
    for call in (call for loop in loops for call in asyncio_calls(loop)):
        assert not ast.unparse(call).startswith(("asyncio.sleep(0)", "asyncio.sleep(0.0)")), f"line {call.lineno}"


@each_file
def test_no_file_is_long(name: str) -> None:
    lines = len(FILES[name].read_text().splitlines())
    assert lines <= LONGEST_FILE, f"{lines} lines"


@each_file
def test_every_module_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(ast.parse(FILES[name].read_text()))
