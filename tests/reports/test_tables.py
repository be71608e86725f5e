"""Tables are Markdown, and their columns line up in a terminal."""

from __future__ import annotations

from conftest import terminal

from pipeline.reports.tables import markdown_table, printed_table


def test_the_first_column_is_set_left_and_the_others_right() -> None:
    assert markdown_table([["", "PSNR", "n"], ["unet", "30.12", "1"], ["autoencoder", "9.5", "1,000"]]) == (
        "|             |  PSNR |     n |\n"
        "|-------------|------:|------:|\n"
        "| unet        | 30.12 |     1 |\n"
        "| autoencoder |   9.5 | 1,000 |\n"
    )


def test_a_table_of_one_column_or_of_a_header_alone() -> None:
    assert markdown_table([["run"], ["a"]]) == "| run |\n|-----|\n| a   |\n"
    assert markdown_table([["run", "PSNR"]]) == "| run | PSNR |\n|-----|-----:|\n"


ROWS = [["", "name", "PSNR", "a|b", "id"], ["1", "x" * 60, "30.12", "|" * 9, "0f3a"]]


def test_a_table_is_as_wide_as_the_terminal_and_says_what_that_left_out() -> None:
    assert printed_table(ROWS, "see sweep.md") == markdown_table(ROWS).splitlines()  # this is no terminal
    with terminal(200):
        assert printed_table(ROWS, "see sweep.md") == markdown_table(ROWS).splitlines()
    with terminal(50):
        assert printed_table(ROWS, "see sweep.md", ["", "name", "id", "PSNR"]) == [
            "|   |                 name |  PSNR |   id |",
            "|---|---------------------:|------:|-----:|",
            f"| 1 | {'x' * 19}… | 30.12 | 0f3a |",
            "To fit 50 characters, left out: a|b; see sweep.md",
        ]
        *table, line = printed_table(
            [row[:3] for row in ROWS], "see sweep.md"
        )  # from left to right, if none counts more
    assert table == markdown_table([["", "name", "PSNR"], ["1", f"{'x' * 19}…", "30.12"]]).splitlines()
    assert line == "To fit 50 characters, long cells are cut; see sweep.md"
