"""What `--help` says: commands and options under headings, summaries in full, examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

GENERAL = "Options"
_FEW = 10  # options
_NAME_WIDTH = 30  # characters; a longer name has its text in the next line


class GroupedOption(click.Option):
    """An option that stands under the heading `group`; its help ends with the names that installed packages add."""

    def __init__(
        self, *args: Any, group: str = GENERAL, added: Callable[[], Sequence[str]] = tuple, **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.group, self._added = group, added

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help, for `--help`."""
        help_text = self.help
        if names := self._added():
            self.help = f"{help_text} Added by installed packages: {', '.join(names)}."
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = help_text

    @property
    def default_text(self) -> str:
        """The default as one would type it."""
        values = self.default if isinstance(self.default, list) else [self.default]
        return ";".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)

    def get_help_extra(self, ctx: click.Context) -> Any:
        """What stands in brackets behind the help: the default, if it says anything."""
        extra = super().get_help_extra(ctx)
        if self.default_text and not self.required:
            extra["default"] = self.default_text
        return extra


class Command(click.Command):
    """A command with its options under headings, and examples.

    Args:
        section: the heading under which the list of commands has it.
        examples: arguments, as one would type them behind the name of the command.
    """

    def __init__(self, *args: Any, section: str, examples: Sequence[str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section, self.examples = section, examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the headings of their groups, the general ones last; a few need no headings."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option) and not param.hidden]
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in options:
            group = option.group if isinstance(option, GroupedOption) and len(options) > _FEW else GENERAL
            if record := option.get_help_record(ctx):
                groups.setdefault(group, []).append(record)
        if general := groups.pop(GENERAL, None):
            groups[GENERAL] = general
        _write_sections(formatter, groups)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own, so that it can be copied."""
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for example in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{ctx.command_path} {example}".rstrip() + "\n")


class Group(click.Group):
    """The list of commands, under headings, with the whole first paragraph of what each does."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every command under the heading of its section, in the order of the source."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if isinstance(command, Command) and not command.hidden:
                sections.setdefault(command.section, []).append((name, summary(command)))
        _write_sections(formatter, sections)


def _write_sections(formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write lists of names and texts, with the texts of all of them in one column."""
    longest = max(len(name) for rows in sections.values() for name, _ in rows)
    width = min(longest, _NAME_WIDTH)
    for heading, ((first, text), *rest) in sections.items():
        with formatter.section(heading):
            formatter.write_dl([(first.ljust(width), text), *rest], col_max=_NAME_WIDTH)


def summary(command: click.Command) -> str:
    """The first paragraph of the help of a command, on one line."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def visible_options(command: click.Command) -> Iterable[str]:
    """The options of a command that `--help` shows, as they are typed."""
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            yield from param.opts
