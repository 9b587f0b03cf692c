"""Commands and functions on hostile input, and what they must never do."""

import contextlib
import hashlib
import io
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.errors import VL3DError

LONGEST_MESSAGE = 2300  # characters
# 1 is an internal error, or the difference that `verify` found.
EXPECTED_CODES = {0, 2, 3, 4, 5}
# Control characters other than tab, line break and the carriage return of bars.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]")
INPUTS = {".las", ".laz"}
DRAFT = re.compile(r"\.part|\.tmp|\.lock")


class Judge:
    """Runs the program in this process, and collects what is wrong.

    Args:
        folder: Where the input lies and outputs go.

    Attributes:
        findings: One text each.
        codes: The exit codes of the commands.
        messages: What they printed to stderr.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.findings: list[str] = []
        self.codes: list[int] = []
        self.messages: list[str] = []

    def command(
        self,
        *args: str,
        allowed: frozenset[int] = frozenset(),
        writes: Sequence[Path] = (),
    ) -> int:
        """Run a command; after an error nothing may have changed on disk.

        Args:
            args: The words of the command.
            allowed: Exit codes beyond those that every command may have.
            writes: Folders whose files the command may replace and remove.
        """
        from vl3d_lite.cli import app

        before = contents(self.folder)
        output, errors = Stream(), Stream()
        argv, sys.argv = sys.argv, ["vl3d-lite", *args]
        code, trace = 0, ""
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                app.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            code, trace = 1, traceback.format_exc()
        finally:
            sys.argv = argv
        self.codes.append(code)
        message = errors.getvalue()
        self.messages.append(message)
        if trace or code not in EXPECTED_CODES | allowed:
            self._add(args, f"exit code {code}", trace or message)
        elif code and not message.strip():
            self._add(args, f"exit code {code} without a message", "")
        if len(message) > LONGEST_MESSAGE and code and args[0] != "convert":
            self._add(args, f"a message of {len(message)} characters", message[:300])
        if CONTROL.search(message) or CONTROL.search(output.getvalue()):
            self._add(args, "prints control characters", ascii(message)[:400])
        self._compare(args, before, contents(self.folder), code, writes)
        return code

    def call(self, name: str, function, *args, **kwargs):
        """Call a function, which may raise errors for the user only.

        Returns:
            What it returned; None after an error.
        """
        before = contents(self.folder)
        try:
            result = function(*args, **kwargs)
        except (VL3DError, MemoryError):
            self._compare([name], before, contents(self.folder), 3)
        except Exception:
            self._add([name], "an error of its own", traceback.format_exc())
        else:
            self._compare([name], before, contents(self.folder), 0)
            return result
        return None

    def _compare(self, args, before, after, code, writes=()):
        own = tuple(str(path.relative_to(self.folder)) for path in writes)
        for path, digest in before.items():
            if path.startswith(own) and own and Path(path).suffix not in INPUTS:
                continue
            if path in after and after[path] != digest:
                self._add(args, "changed a file that existed", path)
            elif path not in after:
                self._add(args, "removed a file that existed", path)
        for path in after.keys() - before.keys():
            if DRAFT.search(Path(path).name):
                self._add(args, "left a draft", path)
            elif code and not own:
                self._add(args, f"wrote a file, exit code {code}", path)

    def _add(self, args, what, detail):
        self.findings.append(f"{' '.join(map(ascii, args))}: {what}\n{detail}".strip())


class Stream(io.TextIOWrapper):
    """A stream in memory that has bytes, an encoding and a text."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def getvalue(self):
        return self.buffer.getvalue().decode("utf-8", "replace")


def contents(folder):
    """The hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
