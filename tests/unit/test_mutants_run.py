"""The runner of the mutants: how it reads and applies a patch, and which it takes when time is short; without running any."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest

from tests.mutants import run

PATCH = """# what: it does the wrong thing
# red: tests/native/test_x.c::test_one
# red: tests/unit/test_y.py
diff --git a/one.c b/one.c
--- a/one.c
+++ b/one.c
@@ -1,3 +1,3 @@
 first
--- old, which looks like a header
+++ new, too
 last
diff --git a/two.c b/two.c
--- a/two.c
+++ b/two.c
@@ -7 +7,2 @@
-gone
+come
+more
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "one.c").write_text("moved down\nfirst\n-- old, which looks like a header\nlast\n")
    (tmp_path / "two.c").write_text("gone\n")
    return tmp_path


@pytest.fixture
def mutant(tmp_path):
    path = tmp_path / "01-wrong.patch"
    path.write_text(PATCH)
    return run.Mutant.read(path)


def test_the_head_says_what_is_wrong_and_what_turns_red(mutant):
    assert (mutant.name, mutant.what) == ("01-wrong", "it does the wrong thing")
    assert mutant.red == ("tests/native/test_x.c::test_one", "tests/unit/test_y.py")


def test_hunks_apply_wherever_their_context_is(mutant, tree):
    assert run.apply(mutant, tree) == [tree / "one.c", tree / "two.c"]
    assert (tree / "one.c").read_text() == "moved down\nfirst\n++ new, too\nlast\n"
    assert (tree / "two.c").read_text() == "come\nmore\n"


@pytest.mark.parametrize("text", ["elsewhere\n", "gone\ngone\n"])
def test_a_context_that_is_not_there_once_is_refused(mutant, tree, text):
    (tree / "two.c").write_text(text)
    with pytest.raises(run.MutantError, match="does not apply"):
        run.apply(mutant, tree)


def test_a_file_that_is_gone_is_refused(mutant, tree):
    (tree / "two.c").unlink()
    with pytest.raises(run.MutantError, match=r"there is no two\.c"):
        run.apply(mutant, tree)


@pytest.mark.parametrize("text", ["# what: x\n", "# red: y\n", "# what: x\n# what: y\n# red: z\n"])
def test_a_head_that_says_too_little_or_too_much_is_refused(tmp_path, text):
    (tmp_path / "bad.patch").write_text(text)
    with pytest.raises(run.MutantError, match="needs one"):
        run.Mutant.read(tmp_path / "bad.patch")


def test_every_patch_here_is_readable_and_names_files_that_are_there():
    paths = sorted(run.PATCHES.glob("*.patch"))
    assert len(paths) >= 20
    for path in paths:
        mutant = run.Mutant.read(path)
        assert all((run.ROOT / name).is_file() for name, _, _ in run.hunks(mutant.diff)), path.name
        assert all((run.ROOT / test.split("::")[0]).is_file() for test in mutant.red), path.name


# ---- which, and how many --------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(mutant):
    """a, b, …, h: each patches the file of its name."""
    return [
        replace(mutant, name=name, diff=(f"+++ b/{name}.c", "@@ -1 +1 @@", "-x", "+y"), red=(f"{name}.py",)) for name in "abcdefgh"
    ]


def names(mutants):
    return "".join(mutant.name for mutant in mutants)


def test_what_a_change_touches_comes_first(many):
    ordered = names(run.in_turn(many, {"c.c", "tests/mutants/f.patch", "README.md"}, "0123"))
    assert set(ordered[:2]) == {"c", "f"}
    assert sorted(ordered) == list("abcdefgh")


def test_every_commit_has_its_own_order(many):
    orders = [names(run.in_turn(many, (), commit)) for commit in ("0123", "0123", "4567")]
    assert orders[0] == orders[1] != orders[2]
    assert {names(run.in_turn(many, (), f"{commit:040x}"))[0] for commit in range(100)} == set("abcdefgh")


def test_changes_are_those_since_a_commit(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *words], cwd=tmp_path, check=True)

    monkeypatch.setattr(run, "ROOT", tmp_path)
    git("init", "-q")
    for name in ("a.c", "b.c", "c.c"):
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-q", "-m", name)
    (tmp_path / "a.c").write_text("not committed")
    assert run.changed_since("HEAD~1") == {"a.c", "c.c"}
    with pytest.raises(run.MutantError, match="HEAD~9"):
        run.changed_since("HEAD~9")


@pytest.fixture
def at_work(monkeypatch):
    """A run on a clock of its own: a test takes a second, a mutant ten. `red` are tests that fail unpatched."""

    def at_work(mutants, seconds, red=()):
        now, asked = [0.0], []

        def tests(tree, names, changed=()):
            now[0] += len(names)
            asked.extend(names)
            return [name for name in names if name in red]

        def judged(mutant, tree):
            now[0] += 10.0
            return run.Verdict(mutant.name, "", True, "", 10.0)

        monkeypatch.setattr(run, "red", tests)
        monkeypatch.setattr(run, "judge", judged)
        progress = run.Run(mutants, seconds, lambda: now[0])
        return names(progress.work(mock.Mock())), progress.unpatched().killed, asked

    return at_work


@pytest.mark.parametrize(("seconds", "begun"), [(0.0, "a"), (21.9, "a"), (22.0, "ab"), (44.0, "abcd"), (math.inf, "abcdefgh")])
def test_none_begins_that_would_end_too_late(at_work, many, seconds, begun):
    """The first has nothing to go by."""
    assert at_work(many, seconds)[0] == begun


def test_each_test_is_run_unpatched_once_before_it_counts(at_work, many):
    twins = [replace(mutant, red=("same.py",)) for mutant in many]
    assert at_work(twins, math.inf) == ("abcdefgh", True, ["same.py"])


def test_a_test_that_is_red_unpatched_ends_the_run(at_work, many):
    assert at_work(many, math.inf, red=("c.py",)) == ("ab", False, ["a.py", "b.py", "c.py"])


def test_what_a_test_prints_need_not_be_text(tmp_path):
    said = run.call(tmp_path, "printf", r"before \200 after")
    assert said.stdout == "before \N{REPLACEMENT CHARACTER} after"


# ---- what takes too long --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of a project with one C file; its commands, as (program, seconds); and words of which a command hangs that has one."""
    project = tmp_path / "project"
    (project / "native").mkdir(parents=True)
    (project / "native" / "one.c").write_text("right\n")
    (project / "a.py").write_text("right\n")
    monkeypatch.setattr(run, "ROOT", project)
    calls: list[tuple[str, float]] = []
    hangs: set[str] = set()

    def call(_tree, *command, seconds=run.TIMEOUT_S):
        calls.append((command[0], seconds))
        if hangs & set(command):
            raise subprocess.TimeoutExpired(command, seconds)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(run, "call", call)
    return run.Tree(tmp_path), calls, hangs


def of(file: str, red: str = "tests/unit/test_y.py") -> run.Mutant:
    return run.Mutant(file, "", (red,), (f"+++ b/{file}", "@@ -1 +1 @@", "-right", "+wrong"))


def test_a_build_has_a_time_of_its_own(copy):
    _, calls, _ = copy
    assert calls == [(sys.executable, run.BUILD_S)] * 2, "of what is Python, and of what is C"
    assert run.BUILD_S > run.TIMEOUT_S


@pytest.mark.parametrize(("red", "compiler"), [("tests/unit/test_y.py", "cc"), ("tests/native/test_x.c::one", "make")])
def test_a_build_that_takes_too_long_is_that_mutants_failure_and_the_next_has_its_turn(copy, monkeypatch, red, compiler):
    """A machine that is slow is not a test that turned red."""
    tree, _, hangs = copy
    hangs.add(compiler)
    monkeypatch.setattr(run.Run, "green_unpatched", lambda *_: True)
    first, second = run.Run([of("native/one.c", red), of("a.py")], math.inf).work(tree)
    assert (first.killed, first.note) == (False, f"does not build within {run.BUILD_S} s")
    assert second.name == "a.py"
    assert (tree.path / "native" / "one.c").read_text() == "right\n"


def test_a_test_that_hangs_is_red(copy):
    tree, _, hangs = copy
    hangs.add("-m")
    verdict = run.judge(of("a.py"), tree)
    assert (verdict.killed, verdict.note) == (True, "tests/unit/test_y.py")


def test_a_test_whose_id_has_spaces_is_red_too(monkeypatch, tmp_path):
    one, other = "tests/unit/test_y.py::test_it[a prefix]", "tests/unit/test_y.py::test_it[a route]"
    said = subprocess.CompletedProcess([], 1, f"FAILED {one} - assert 0 == 1\n1 failed, 1 passed in 0.10s\n", "")
    monkeypatch.setattr(run, "call", lambda *_: said)
    assert run.red_pytest(tmp_path, [one, other]) == [one]


def test_a_tree_that_does_not_build_unpatched_ends_in_words(monkeypatch, capsys):
    def no_copy(*_):
        raise run.MutantError("does not build")

    monkeypatch.setattr(run, "Tree", no_copy)
    assert run.main(["cap-01"]) == 1
    assert capsys.readouterr().out == "does not build\n"
