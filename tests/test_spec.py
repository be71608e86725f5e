"""NAME[:key=value,…], and what is said of a name that is not known."""

from __future__ import annotations

import pytest

from pipeline.errors import PipelineError
from pipeline.spec import split_spec, unknown


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("unet", "unet", {}),
        ("unet:", "unet", {}),
        ("unet:width=8", "unet", {"width": "8"}),
        (
            " camera : profile = Canon EOS 6D iso 6400 , draw=log",
            "camera",
            {"profile": "Canon EOS 6D iso 6400", "draw": "log"},
        ),
        ("poisson:peak=10:100", "poisson", {"peak": "10:100"}),
        ("a:b=c=d", "a", {"b": "c=d"}),
        ("", "", {}),
    ],
)
def test_a_text_is_taken_apart(text: str, name: str, options: dict[str, str]) -> None:
    assert split_spec(text, "--model") == (name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unet:width", "--model 'unet:width': 'width' is not of the form key=value"),
        ("unet:=8", "--model 'unet:=8': '=8' is not of the form key=value"),
        ("unet:width=", "--model 'unet:width=': 'width=' is not of the form key=value"),
        ("unet:width=8,", "--model 'unet:width=8,': '' is not of the form key=value"),
        ("unet:width=8,width=9", "--model 'unet:width=8,width=9': 'width' is given twice"),
    ],
)
def test_a_bad_text_says_where_it_is_wrong(text: str, message: str) -> None:
    with pytest.raises(PipelineError) as error:
        split_spec(text, "--model")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("unnet", ["unet", "dncnn"], "--model: 'unnet' is not known; allowed: unet, dncnn; did you mean 'unet'?"),
        ("xyz", ["unet", "dncnn"], "--model: 'xyz' is not known; allowed: unet, dncnn"),
        ("xyz", [], "--model: 'xyz' is not known; allowed: none"),
    ],
)
def test_an_unknown_name_says_what_is_allowed(name: str, known: list[str], message: str) -> None:
    assert str(unknown("--model", name, iter(known))) == message
