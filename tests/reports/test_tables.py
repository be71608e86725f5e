"""Tables are Markdown, and their columns line up in a terminal."""

from __future__ import annotations

from pipeline.reports.tables import markdown_table


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
