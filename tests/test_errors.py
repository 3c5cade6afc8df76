import pytest
from torch._utils import ExceptionWrapper

from insta_rtdetr.errors import DatasetError, UserError, config_errors, one_line, report


def test_an_error_from_a_loader_process_is_its_last_line():
    try:
        raise DatasetError("1.png: cannot be read.  Mend it.")
    except DatasetError:
        # What a process of torch's data loader sends instead of the error.
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DatasetError) as caught:
        wrapped.reraise()
    assert "Traceback" in str(caught.value)
    assert one_line(caught.value) == "1.png: cannot be read.  Mend it."


def test_a_message_of_several_lines_becomes_one(capsys):
    assert report(UserError("first\n  second")) == 1
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize(
    "error, message",
    [
        (ValueError("MODEL.X must be 4, got 5."), "The config gives no model: MODEL.X must be 4, got 5."),
        (AssertionError("no"), "The config gives no model: no.  Correct the config."),
        (
            KeyError("No object named 'Hungry' found in 'MATCHER' registry!"),
            "MODEL.MATCHER.NAME is 'Hungry', which is not registered.  Correct MODEL.MATCHER.NAME, or import the code "
            "that registers it.",
        ),
        (DatasetError("as it is"), "as it is"),
    ],
)
def test_what_a_constructor_says_of_the_config_becomes_one_line(error, message):
    with pytest.raises((UserError, DatasetError)) as caught, config_errors("model"):
        raise error
    assert str(caught.value) == message
