"""The command insta-rtdetr: it runs the same functions as the scripts."""

import subprocess
import sys

import pytest

from insta_rtdetr.cli import COMMANDS, main
from insta_rtdetr.command_line import SHARED_OPTIONS


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


def test_an_unknown_command_is_named_in_one_line(capsys):
    assert main(["trian", "--resume"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: There is no command trian") and error.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_of_the_command_and_wrong_options_are_one_line(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0 and f"usage: insta-rtdetr {name}" in capsys.readouterr().out
    assert main([name, "--no-such-option"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.endswith(" --help.\n") and error.count("\n") == 1


def test_an_option_means_the_same_in_every_command(capsys):
    for name in ("train", "predict", "benchmark"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        words = " ".join(capsys.readouterr().out.split())
        assert all(SHARED_OPTIONS[option]["help"] in words for option in ("--threads", "--opts"))


def test_evaluate_is_train_that_only_evaluates(capsys):
    assert main(["evaluate", "--config-file", "quickstart_MNV2_D3_256", "--dataset", "absent"]) == 1
    assert "absent not found" in capsys.readouterr().err


def test_the_module_is_the_command():
    found = subprocess.run([sys.executable, "-m", "insta_rtdetr", "dataset", "check", "absent"], capture_output=True)
    assert found.returncode == 1 and found.stderr.startswith(b"error: ")


def test_a_command_starts_without_the_packages_that_only_drawing_or_training_needs():
    code = "import sys, insta_rtdetr.cli; print(sorted({'matplotlib', 'scipy.optimize'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
