"""``mvgateway completion``: what a shell needs to complete verbs, flags and their values. Room: cli.

The script is made from the parser and asks nobody when it completes: no Python starts at a key. Where a flag takes any value, or no
word of ours can stand, the shell completes file names.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

NAME = "completion"
HELP = "print a script by which bash, zsh or fish completes our verbs, flags and values"
EXAMPLE = """
mvgateway completion bash > ~/.local/share/bash-completion/completions/mvgateway
mvgateway completion zsh > ~/.zfunc/_mvgateway
mvgateway completion fish > ~/.config/fish/completions/mvgateway.fish
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SHELLS), help="whose script")


def run(args: argparse.Namespace) -> int:
    print(SHELLS[args.shell](known_words()), end="")
    return 0


@dataclass(frozen=True, slots=True)
class Flag:
    """``values``: the words that may follow; none where any may, or none (``alone``)."""

    name: str
    told: str
    values: tuple[str, ...] = ()
    alone: bool = False


@dataclass(slots=True)
class Words:
    """What may follow a verb: its flags, and words that stand by themselves."""

    told: str
    flags: dict[str, Flag] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)


def known_words() -> dict[str, Words]:
    """Verb → what may follow it, from the parser."""
    from gateway.cli import build_parser, load_verb

    verbs = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    found = {name: Words(load_verb(name).HELP) for name in verbs.choices}
    for name, parser in verbs.choices.items():
        _collect(parser, found[name])
    return found


def _collect(parser: argparse.ArgumentParser, into: Words) -> None:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            into.places += list(action.choices)
            for inner in action.choices.values():
                _collect(inner, into)
            continue
        values = tuple(map(str, action.choices or ()))
        if not action.option_strings:
            into.places += values
        elif action.help != argparse.SUPPRESS:
            told = formatter._expand_help(action) if action.help else ""
            for name in action.option_strings:
                if name.startswith("--"):
                    into.flags[name] = Flag(name, told, values, alone=action.nargs == 0)


def _values_of(verbs: dict[str, Words]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """``VERB:FLAG`` patterns and what may follow; nothing stands for file names."""
    for verb, words in verbs.items():
        valued = [flag for flag in words.flags.values() if not flag.alone]
        for flag in valued:
            if flag.values:
                yield f"{verb}:{flag.name}", flag.values
        if free := [flag.name for flag in valued if not flag.values]:
            yield "|".join(f"{verb}:{name}" for name in free), ()


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


def bash(verbs: dict[str, Words]) -> str:
    """For bash 3.2 and newer."""
    lines = [
        "# bash completion for mvgateway; made by `mvgateway completion bash`",
        "_mvgateway() {",
        '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" verb="${COMP_WORDS[1]}"',
        "  local words= flags=",
        "  COMPREPLY=()",
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f'    COMPREPLY=($(compgen -W {_quoted([*verbs, "--help", "--version"])} -- "$cur"))',
        "    return",
        "  fi",
        '  case "$verb:$prev" in',
    ]
    for pattern, values in _values_of(verbs):
        done = f'COMPREPLY=($(compgen -W {_quoted(values)} -- "$cur")); return' if values else "return"
        lines.append(f"    {pattern}) {done} ;;")
    lines += ["  esac", '  case "$verb" in']
    for verb, words in verbs.items():
        lines.append(f"    {verb}) flags={_quoted(words.flags)} words={_quoted(words.places)} ;;")
    lines += [
        "  esac",
        '  case "$cur" in',
        '    -*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;',
        '    *) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;',
        "  esac",
        "}",
        "complete -o default -F _mvgateway mvgateway",
    ]
    return "\n".join(lines) + "\n"


def zsh(verbs: dict[str, Words]) -> str:
    """For zsh 5; as a file of ``fpath``, or sourced after ``compinit``."""
    described = " ".join(shlex.quote(f"{verb}:{words.told}") for verb, words in verbs.items())
    lines = [
        "#compdef mvgateway",
        "# made by `mvgateway completion zsh`",
        "_mvgateway() {",
        "  local verb=${words[2]} previous=${words[CURRENT-1]}",
        "  if (( CURRENT == 2 )); then",
        f"    local -a verbs=({described})",
        "    _describe verb verbs",
        "    return",
        "  fi",
        '  case "$verb:$previous" in',
    ]
    for pattern, values in _values_of(verbs):
        done = f"compadd -- {shlex.join(values)}" if values else "_files"
        lines.append(f"    {pattern}) {done}; return ;;")
    lines += ["  esac", "  if [[ $PREFIX == -* ]]; then", "    case $verb in"]
    lines += [f"      {verb}) compadd -- {shlex.join(words.flags)} ;;" for verb, words in verbs.items()]
    lines += ["    esac", "    return", "  fi", "  case $verb in"]
    lines += [
        f"    {verb}) compadd -- {shlex.join(words.places)} ;;"
        for verb, words in verbs.items()
        if words.places
    ]
    lines += [
        "    *) _files ;;",
        "  esac",
        "}",
        'if [ "$funcstack[1]" = "_mvgateway" ]; then _mvgateway "$@"; else compdef _mvgateway mvgateway; fi',
    ]
    return "\n".join(lines) + "\n"


def fish(verbs: dict[str, Words]) -> str:
    """For fish 3 and newer."""
    lines = ["# made by `mvgateway completion fish`"]
    for verb, words in verbs.items():
        seen = f"complete -c mvgateway -n '__fish_seen_subcommand_from {verb}'"
        lines.append(
            f"complete -c mvgateway -f -n __fish_use_subcommand -a {verb} -d {_fish_quoted(words.told)}"
        )
        if words.places:
            lines.append(f"{seen} -a {_fish_quoted(' '.join(words.places))}")
        for flag in words.flags.values():
            takes = f" -x -a {_fish_quoted(' '.join(flag.values))}" if flag.values else " -r"
            lines.append(
                f"{seen} -l {flag.name[2:]}{'' if flag.alone else takes} -d {_fish_quoted(flag.told)}"
            )
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    """In single quotes as fish has them: only the backslash and the quote are escaped."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ") + "'"


SHELLS: dict[str, Callable[[dict[str, Words]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
