"""The runner of the mutants: how it reads and applies a patch, without running any."""

from __future__ import annotations

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
