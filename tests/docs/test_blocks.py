"""Blocks, marks and outputs are read as they are meant."""

import subprocess
import sys

import pytest

from .blocks import Block, parse
from .compare import differing_line, essence
from .running import BlockError, PageRunner
from .workspace import environment

PAGE = """\
Text.

<!-- slow -->
<!-- not run: needs a GPU -->
```bash
nvidia-smi
```

1. A list:

    ```python
    if True:
        print(1)
    ```

<!-- slow -->
This text takes the comment away.

```text
1
```
"""


def test_blocks_have_languages_lines_and_the_marks_before_them():
    shell, program, output = parse(PAGE, "a.md")
    assert (shell.language, shell.line, shell.text) == ("bash", 6, "nvidia-smi\n")
    assert shell.marks == {"slow": "", "not run": "needs a GPU"} and not shell.is_run
    assert (program.language, program.text, program.marks) == ("python", "if True:\n    print(1)\n", {})
    assert program.is_run and not output.is_run and output.marks == {}


def test_an_open_block_is_refused():
    with pytest.raises(ValueError, match=r"a\.md:2"):
        list(parse("```bash\nls\n", "a.md"))


@pytest.mark.parametrize(
    "shown, printed, line",
    [
        ("12 objects in 0.5 s", "  7 objects   in 1,234.5 s\n", None),
        ("wrote /a/b.png", "wrote /tmp/x/c_d.png", None),
        ("first\n...\nlast", "first\nmiddle\nlast", None),
        ("first\nlast", "last\nfirst", "last"),
        ("12 objects", "12 coins", "0 objects"),
        ("MNV2_D3", "MNV2_D6", "MNV2_D3"),
        ("--- | ----", "------ | -----", None),
        ("done", "10 %\r 100 %\r\x1b[32mdone\x1b[0m", None),
    ],
)
def test_output_is_compared_without_figures(shown, printed, line):
    assert differing_line(shown, printed) == line


def test_names_with_figures_stay():
    assert essence("ok  R50vd-D6 and MNV2_D3_320 have 43.9 M") == ["ok R50vd-D6 and MNV2_D3_320 have 0 M"]


def run(folder, *blocks: tuple[str, str], **marks: str) -> None:
    PageRunner(folder, with_slow=False).run([Block("a.md", 1, *block, marks) for block in blocks])


def test_programs_share_names_and_commands_share_the_folder(tmp_path):
    run(
        tmp_path, ("bash", "echo 3 > number"), ("python", "number = int(open('number').read())"),
        ("python", "print(f'{number} is a number')"), ("text", "7 is a number"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "blocks, message",
    [
        ([("bash", "false | true")], "exit code 1"),
        ([("python", "x = 1 / 0")], "ZeroDivisionError"),
        ([("bash", "echo right"), ("text", "wrong")], "not printed: 'wrong'"),
        ([("", "ls")], "language ''"),
    ],
)
def test_what_does_not_do_what_is_shown_is_found(tmp_path, blocks, message):
    with pytest.raises(BlockError, match=rf"a\.md:1: {message}"):
        run(tmp_path, *blocks)


def test_a_failure_that_is_expected_must_happen(tmp_path):
    run(tmp_path, ("bash", "false"), fails="")
    with pytest.raises(BlockError, match="exit code 0"):
        run(tmp_path, ("bash", "true"), fails="")


def test_slow_blocks_and_their_output_are_left_out(tmp_path):
    run(tmp_path, ("bash", "touch ran"), ("text", "anything"), slow="")
    assert not (tmp_path / "ran").exists()


def test_trainings_of_other_processes_are_short(tmp_path):
    """The function is replaced where commands get it from."""
    program = "import insta_rtdetr.engine.command_line as c; print(c.train.__qualname__)"
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip().startswith("shorten.")
