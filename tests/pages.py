"""Runs a page of the documentation as a reader would: its files, its commands and its Python, from top to bottom.

A block with a title is a file of that name. `sh` blocks are commands, `python` blocks share one namespace, and `text`
is read, not run. A comment on the line before a block says what is special about it:

    <!-- exits 2 -->    these commands end with that code
    <!-- not run -->    these are not run
    <!-- says -->       every line here is in what the last commands wrote; ... stands for anything
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
DRIVERS = ("TrainingDriver", "OptimizationDriver", "GetData", "PlotHistory")
TIMEOUT = 100.0


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where it begins, from 1."""

    language: str
    title: str | None
    mark: str | None
    text: str
    line: int


def blocks_of(text: str) -> list[Block]:
    return [
        Block(m["language"], m["title"], m["mark"], m["text"], text.count("\n", 0, m.start("language")) + 1)
        for m in FENCE.finditer(text)
    ]


@dataclass
class Reader:
    """Who follows a page in `folder`, with `variables` on top of the environment."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    said: str = ""

    def follow(self, page: Path) -> None:
        """Run the page. AssertionError or the block's own error, which name the page and the line."""
        names: dict[str, Any] = {"__name__": "__main__"}
        with self._at_home():
            for block in blocks_of(page.read_text(encoding="utf-8")):
                self.do(block, f"{page.name}:{block.line}", names)

    def do(self, block: Block, where: str, names: dict[str, Any]) -> None:
        if block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.mark == "not run":
            return
        elif block.language == "sh":
            wanted = int((block.mark or "exits 0").removeprefix("exits "))
            code = self.run(block.text)
            assert code == wanted, f"{where}: exit code {code}, not {wanted}\n{self.said}"
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, where, "exec"), names)
        elif block.mark == "says":
            missing = [line for line in block.text.splitlines() if not is_in(line, self.said)]
            assert not missing, f"{where}: not said: {missing}\n{self.said}"

    def run(self, script: str) -> int:
        """Run commands; the exit code. Where all are drivers of ours they run in this process, which is quicker."""
        commands = [shlex.split(line) for line in script.replace("\\\n", "").splitlines()]
        if not all(words[0] in DRIVERS for words in commands):
            return self.shell(script)
        self.said = ""
        return next((code for words in commands if (code := self.drive(words))), 0)

    def drive(self, words: list[str]) -> int:
        """What `sys.exit` gets from a driver."""
        code = 0
        with io.StringIO() as heard, redirect_stdout(heard), redirect_stderr(heard):
            try:
                importlib.import_module(f"nnlo.drivers.{words[0]}").main(words[1:])
            except SystemExit as end:
                code = int(end.code or 0)
            self.said += heard.getvalue()
        return code

    def shell(self, script: str) -> int:
        """Run commands; their exit code. What they start is gone afterwards, whatever happens."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", "-euc", script],
            cwd=self.folder,
            env={**os.environ, **self.variables, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            self.said, _ = process.communicate(timeout=TIMEOUT)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return process.returncode

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        """In the folder and with the variables; the modules imported from there are forgotten afterwards."""
        before, environment = Path.cwd(), dict(os.environ)
        os.chdir(self.folder)
        os.environ.update(self.variables)
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(before)
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(f"{self.folder}{os.sep}"):
                    del sys.modules[name]


def is_in(line: str, said: str) -> bool:
    """Whether the parts of a line, between its `...`, are in one line that was said."""
    pattern = ".*".join(re.escape(part.strip()).replace(r"\ ", r"\s+") for part in line.split("..."))
    return re.search(pattern, said) is not None
