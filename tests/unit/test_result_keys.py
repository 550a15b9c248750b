"""What modules and actions answer with: a key that means something to Ansible means just that, in Ansible's type.

ansible-core 2.21 makes what it finds under such a key into its own type: a count of 60 under ``finished`` becomes True.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ANSWERING = sorted([*(REPOSITORY / "library").glob("*.py"), *(REPOSITORY / "plugins/action").glob("*.py")])
SHARED = sorted((REPOSITORY / "plugins/module_utils/qsmr").glob("*.py"))

# What we answer with ourselves, and the types by Ansible's documentation ("Common return values") and code.
OURS = {
    "changed": {"bool"},
    "failed": {"bool"},
    "msg": {"str"},
    "diff": {"dict", "list"},
    "ansible_facts": {"dict"},
    "ansible_stats": {"dict"},
}
# What Ansible adds, or reads with a meaning that no answer of ours has.
ANSIBLES = {
    "skipped", "unreachable", "finished", "started", "rc", "results", "warnings", "deprecations", "exception",
    "invocation", "retries", "attempts", "item", "stdout", "stderr", "stdout_lines", "stderr_lines",
    "module_stdout", "module_stderr", "backup_file", "parsed", "ansible_parsed", "skip_reason", "skipped_reason",
    "false_condition", "changed_when_result", "failed_when_result", "break_when_result", "include", "include_args",
    "include_file", "add_host", "add_group", "notify", "async_result", "ansible_async_watch", "results_file",
    "ansible_job_id", "ansible_loop", "ansible_loop_var", "ansible_index_var", "censored", "delegated_host",
}  # fmt: skip


# The keys that Ansible itself gives a type: 2.21 was the first to list them. In a process of its own, for one that has
# imported these internals gives no warnings back from modules.
TYPED = """
try:
    from ansible._internal._task import UnifiedTaskResult
    print(*UnifiedTaskResult.get_result_key_to_resolved_field_mapping(source_is_module=True))
except ImportError:
    pass
"""


@pytest.fixture(scope="module")
def reserved() -> set[str]:
    typed = subprocess.run([sys.executable, "-c", TYPED], check=True, capture_output=True, text=True).stdout
    return (ANSIBLES | set(typed.split())) - set(OURS)


def literals(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Each key that can get into an answer by this code, and its value: of dictionaries that are returned or put
    together under a name, of arguments of exit_json and fail_json, and of what is spread out among them."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name.isupper():
                pass  # a module's options
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=key))], value=value):
                yield str(key), value
            case ast.Assign(value=ast.Dict() as value) | ast.AnnAssign(value=ast.Dict() as value):
                yield from of_dict(value)
            case ast.Return(value=ast.expr() as value) | ast.AugAssign(value=value):
                yield from of_dict(value)
            case ast.Call(func=ast.Attribute(attr="exit_json" | "fail_json" | "update"), keywords=keywords):
                for keyword in keywords:
                    yield from [(keyword.arg, keyword.value)] if keyword.arg else of_dict(keyword.value)


def of_dict(value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    match value:
        case ast.Dict(keys=keys, values=values):
            for key, item in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), item
                elif key is None:
                    yield from of_dict(item)
        case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, right=other):
            yield from of_dict(one)
            yield from of_dict(other)
        case ast.Attribute(attr=name) | ast.Call(func=ast.Name(id=name)):  # {**result.facts}, {**made(name)}
            yield from of_functions().get(name, [])


@cache
def of_functions() -> dict[str, list[tuple[str, ast.expr | None]]]:
    """The keys of the dictionaries that functions of the domain code return, by the function's name."""
    found: dict[str, list[tuple[str, ast.expr | None]]] = {}
    for tree in (ast.parse(path.read_text()) for path in SHARED):
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for node in ast.walk(function):
                match node:
                    case ast.Return(value=ast.Dict(keys=keys, values=values)):
                        named = [(key, item) for key, item in zip(keys, values, strict=True) if key]
                        found.setdefault(function.name, []).extend(
                            (str(key.value), item) for key, item in named if isinstance(key, ast.Constant)
                        )
    return found


def seen_type(value: ast.expr | None) -> str:
    """The type of an expression, where it is plain from how it is written."""
    match value:
        case ast.Constant():
            return type(value.value).__name__
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return "bool"
        case ast.JoinedStr():
            return "str"
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.List() | ast.ListComp():
            return "list"
        case ast.Call(func=ast.Name(id="bool" | "str" | "int" | "float" | "dict" | "list" | "len" as name)):
            return "int" if name == "len" else name
    return ""


def documented(text: str) -> dict[str, dict]:
    found = re.search(r'^RETURN = r"""(.*?)"""', text, re.S | re.M)
    return yaml.safe_load(found[1]) if found else {}


def faults(text: str, reserved: set[str]) -> list[str]:
    said = [(key, field["type"]) for key, field in documented(text).items()]
    done = [(key, seen_type(value)) for key, value in literals(ast.parse(text))]
    return sorted(
        {f"{key} is Ansible's own" for key, _type in said + done if key in reserved}
        | {f"{key} is a {type_}" for key, type_ in said + done if key in OURS and type_ and type_ not in OURS[key]}
    )


@pytest.mark.parametrize("path", ANSWERING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_key_with_a_meaning_for_ansible_has_no_other(path, reserved):
    assert faults(path.read_text(), reserved) == []


@pytest.mark.parametrize(
    "text",
    [
        "def run(module):\n    return {'finished': count()}",
        "module.exit_json(changed=False, skipped=3)",
        "module.exit_json(**{'rc': code})",
        "answer = {}\nanswer['warnings'] = 'Take care'",
        "answer |= {'failed': len(jobs)}",
        "result = {'changed': 'yes'}",
        "result.update(msg=['a', 'b'])",
        "return_ = {**(facts if found else {}), 'exception': None}",
        'RETURN = r"""\nretries:\n  type: int\n"""',
    ],
)
def test_other_uses_would_be_found(text, reserved):
    assert len(faults(text, reserved)) == 1
