"""Help that begins with examples, as one looks for them.

A verb's docstring is `What it does: siamtune verb example`, then what else there is to say; further
examples stand there on indented lines of their own.
"""

import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

SUMMARY = re.compile(r"(?s)^(.*?):\s+(siamtune\s.*)$")
EXAMPLE = re.compile(r"^\s{4,}(siamtune\s.*)$")


class Verb(TyperCommand):
    """A command whose help shows its examples before all else."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.examples, self.help = split_examples(self.help or "")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_examples(self.examples)
        super().format_help(ctx, formatter)


class Verbs(TyperGroup):
    """A group of commands with such a help."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.examples, self.help = split_examples(self.help or "")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_examples(self.examples)
        super().format_help(ctx, formatter)


def print_examples(examples: list[str]) -> None:
    """On stdout, ready to be copied."""
    if examples:
        typer.echo("\n Examples:\n" + "\n".join(f"   {example}" for example in examples))


def split_examples(text: str) -> tuple[list[str], str]:
    """The examples of a docstring, and the docstring without them."""
    examples: list[str] = []
    paragraphs = []
    for number, paragraph in enumerate(text.split("\n\n")):
        found = SUMMARY.match(paragraph) if number == 0 else None
        if found:
            examples.append(" ".join(found[2].split()))
            paragraphs.append(f"{found[1]}.")
            continue
        lines = paragraph.splitlines()
        examples += [match[1].strip() for line in lines if (match := EXAMPLE.match(line))]
        rest = [line for line in lines if not EXAMPLE.match(line)]
        if rest:
            paragraphs.append("\n".join(rest))
    return examples, "\n\n".join(paragraphs)
