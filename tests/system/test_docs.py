"""What the documents show is what the program does: commands, configuration, code and links."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from linewatch.cli import app
from linewatch.config import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"})
SMALLEST = {
    "data": "data: var/\n",
    "lines": "lines: [{id: a, source: 'synthetic:belt', model: m}]\n",
}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@dataclass(frozen=True)
class Block:
    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    texts = {document: document.read_text(encoding="utf-8") for document in DOCUMENTS if document.exists()}
    return [
        Block(document, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for document, text in texts.items()
        for match in fence.finditer(text)
    ]


BLOCKS = blocks()


def of(*languages: str):
    chosen = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell block; redirections and variables are left in place."""
    text = text.replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|;&"):
                found.append(words)
                words = []
            else:
                words.append(word)
    return [words for words in found if words]


def check_linewatch(words: list[str]) -> None:
    command, path = typer.main.get_command(app), "linewatch"
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            break
        path += f" {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands") and "run" in command.commands:  # `alerts CONFIG`
        command = command.commands["run"]
    assert not words or words[0].startswith("-") or not hasattr(command, "commands"), f"no command {path} {words[0]}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    asked = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert asked <= known, f"{path} has no {asked - known}"


def test_the_documents_were_found():
    assert ROOT / "README.md" in DOCUMENTS
    assert {block.language for block in BLOCKS} >= {"sh", "yaml"}
    assert {block.language for block in BLOCKS} <= {"", "sh", "yaml", "python", "json"}, "each language has its check"


@of("sh")
def test_commands_exist_with_these_options(block):
    checked = 0
    for words in commands(block.text):
        program = Path(words[0]).name
        if program == "linewatch":
            check_linewatch(words[1:])
        elif program == "make":
            asked = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert asked <= TARGETS, f"the Makefile has no {asked - TARGETS}"
        elif program == "cp" or (program.startswith("python") and words[1].endswith(".py")):
            assert (ROOT / words[1]).exists()
        checked += 1
    assert checked


def test_a_wrong_command_would_be_noticed():
    for line in ("linewatch up --no-such-option c.yaml", "linewatch model list", "linewatch alerts list --opn c.yaml"):
        with pytest.raises(AssertionError, match=r"has no|no command"):
            check_linewatch(shlex.split(line)[1:])
    check_linewatch(["alerts", "c.yaml"])
    check_linewatch(["alerts", "list", "--open", "c.yaml"])


def as_configuration(text: str) -> str:
    """Complete a fragment with what every configuration needs."""
    missing = [value for key, value in SMALLEST.items() if not re.search(rf"^{key}:", text, re.MULTILINE)]
    return "".join([text, "\n", *missing])


@of("yaml")
def test_configurations_are_valid(block, tmp_path, monkeypatch):
    for name in re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", block.text):
        monkeypatch.setenv(name, "secret")
    text = re.sub(r"\$\{file:[^}]*\}", "secret", block.text)
    path = tmp_path / "linewatch.yaml"
    path.write_text(as_configuration(text), encoding="utf-8")
    load(path).judges()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.yaml")), ids=lambda path: path.name)
def test_example_files_are_valid(path):
    load(path).judges()


def test_json_and_code_are_what_they_say(tmp_path):
    for block in BLOCKS:
        if block.language == "json":
            json.loads(block.text)
        if block.language == "python":
            command = [sys.executable, "-W", "error", "-c", block.text]
            result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
            assert (str(block), result.returncode, result.stderr) == (str(block), 0, "")


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document.exists()], ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []
