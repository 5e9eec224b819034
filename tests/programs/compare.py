"""What all suites have in common: running programs natively and sealed, and comparing the outcomes of their tests.

What is expected to differ is kept in a list beside this file (`python.txt` …). A line that begins at the margin names a unit
of a suite: a module, a file of tests. Behind it stands what some of its tests need that a sandbox does not have, as the tests
themselves show it: a test is expected to differ that shows one of these. An indented line is the name of another test that
comes out differently, or a pattern, and the reason. With `!` before it the test is not run at all, since it would end all
that follow; with `-` before a unit, that one is not. Names and reasons are two spaces apart.
"""

import collections
import fnmatch
import os
import signal
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


class Missing(Exception):
    """Something that the machine does not have, with the command that installs it."""


def need(path, package):
    if not os.path.exists(path):
        raise Missing(f"{path} is missing; `sudo apt-get install {package}` brings it")


class Sandbox:
    """How programs are run on this machine."""

    def __init__(self, ampoule, work, seconds):
        self.ampoule, self.work, self.seconds = ampoule, work, seconds

    def native(self, command, directory, env=None, stdin=b""):
        # What a sandbox has of the environment, too.
        return self._finish(command, directory, {"PATH": "/usr/bin:/bin", "HOME": directory, **(env or {})}, stdin)

    def sealed(self, command, options, cwd, env=None, stdin=b""):
        variables = {"PATH": "/usr/bin:/bin", "HOME": cwd, **(env or {})}
        given = [option for name, value in variables.items() for option in ("--env", f"{name}={value}")]
        limits = ["--memory", "2G", "--output-limit", "1G", "--deadline", f"{self.seconds}s"]
        return self._finish([self.ampoule, "run", *limits, *options, "--cwd", cwd, *given, *command], "/", os.environ, stdin)

    def _finish(self, command, directory, env, stdin):
        """The exit code, and what was printed to both streams."""
        process = subprocess.Popen(
            command, cwd=directory, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            output, _ = process.communicate(stdin, timeout=self.seconds + 30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        return process.returncode, output


class Expected:
    """The kept list of a suite."""

    def __init__(self, suite):
        self.units, self.needs, self.left_out = {}, {}, {}
        unit = None
        with open(os.path.join(HERE, suite + ".txt")) as lines:
            for line in lines:
                if line.startswith("#") or not line.strip():
                    continue
                name, _, reason = (part.strip() for part in line.strip().partition("  "))
                if line[0].isspace():
                    self.units[unit].append((name, reason))
                elif name.startswith("-"):
                    self.left_out[name[1:].strip()] = reason
                else:
                    unit = name
                    self.units[unit], self.needs[unit] = [], reason.split()

    def not_run(self, unit):
        return [name[1:].strip() for name, _ in self.units.get(unit, []) if name.startswith("!")]

    def lines(self, unit):
        """The tests of a unit that are command lines."""
        return [name for name, _ in self.units.get(unit, [])]

    def reason(self, unit, test, found):
        """Why a test may differ, if it may; it was found to differ for this reason."""
        if found in self.needs.get(unit, []):
            return found
        for name, reason in self.units.get(unit, []):
            if not name.startswith("!") and (name == test or fnmatch.fnmatchcase(test, name)):
                return reason
        return None


class Tally:
    """What came of a suite so far."""

    def __init__(self, suite):
        self.suite, self.expected = suite, Expected(suite)
        self.units = self.same = self.passed = self.unexpected = 0
        self.reasons = collections.Counter()

    def all_of(self, units):
        """Counts each of all units that there are which the list neither has nor leaves out."""
        for unit in units:
            if unit not in self.expected.units and unit not in self.expected.left_out:
                self.unexpected += 1
                print(f"{unit}: has no test, and no reason why", flush=True)

    def add(self, unit, native, sealed, need=""):
        """Takes the outcomes of a unit's tests: each an outcome and its reason, by the name of the test. `need` is what all
        tests need that give no reason."""
        self.units += 1
        differences = []
        for test in native.keys() | sealed.keys():
            before, after = native.get(test, ("absent", "")), sealed.get(test, ("absent", need))
            if before[0] == after[0]:
                self.same += 1
                self.passed += before[0] == "pass"
            elif reason := self.expected.reason(unit, test, need or after[1]):
                self.reasons[reason] += 1
            else:
                differences.append((test, before, after))
        self.unexpected += len(differences)
        told = f", {len(differences)} differ unexpectedly" if differences else ""
        print(f"{unit}: {len(native)} tests{told}", flush=True)
        for test, before, after in sorted(differences):
            print(f"    {test}  {after[1] or after[0]}    # natively {before[0]} {before[1]}, sealed {after[0]}", flush=True)

    def print(self):
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        print(f"{self.suite}: {self.units} units, {self.same} tests come out the same ({self.passed} pass), "
              f"{sum(self.reasons.values())} differ as listed ({why}), {self.unexpected} differ unexpectedly")
