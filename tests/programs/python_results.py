"""Runs one module of Python's own regression tests in this process, and writes what came of each test.

    python3 python_results.py MODULE [PATTERN]…

A test whose name one of the patterns matches is left out. The lines begin with `@@`, and have, separated by tabs, the
outcome (`start`, `pass`, `fail`, `skip`, `done`), the name of the test and the reason. `scripts/programs` runs it natively
and sealed.
"""

import fnmatch
import importlib
import os
import sys
import traceback
import unittest

# Tests replace and close the standard streams.
RESULTS = os.fdopen(os.dup(1), "w", buffering=1)

# What shows, in a traceback or in the reason of a skip, that a test needs what a sandbox does not have.
NEEDS = {
    "threads": ["can't start new thread", "unable to start watchdog thread", "unable to start the thread",
                "more than one thread"],
    "processes": ["in _execute_child", "_fork_exec(", "popen_fork.py", "posix_spawn", "os.fork()", "fork_exec", "_spawnvef",
                  "spawnv", "SemLock", "os.waitid(", "fexecve", "pidfd", "requires a shell", "command to run"],
    "network": ["_socket.socket.__init__", "in _set_socket", "Name or service not known",
                "Temporary failure in name resolution", "IPv6"],
    "terminals": ["/pty.py", "out of pty devices", "openpty", "seudo-terminal"],
}


def report(outcome, name, reason=""):
    RESULTS.write(f"@@ {outcome}\t{name.splitlines()[0]}\t{' '.join(str(reason).split())[:160]}\n")


def need_in(text):
    return next((need for need, signs in NEEDS.items() if any(sign in text for sign in signs)), None)


def reason_of(error):
    """What the test needs, or what the error says."""
    return need_in("".join(traceback.format_exception(error))) or f"{type(error).__name__}: {error}"


class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.has_failed = False
        report("start", test.id())

    def failed(self, test, error):
        self.has_failed = True
        report("fail", test.id(), reason_of(error[1]))
        traceback.print_exception(*error)

    addFailure = addError = failed

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.failed(test, error)

    def addSuccess(self, test):
        if not self.has_failed:
            report("pass", test.id())

    def addExpectedFailure(self, test, error):
        report("pass", test.id())

    def addUnexpectedSuccess(self, test):
        report("fail", test.id(), "unexpected success")

    def addSkip(self, test, reason):
        report("skip", test.id(), need_in(str(reason)) or reason)


def without(suite, patterns):
    kept = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(without(test, patterns))
        elif not any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in patterns):
            kept.addTest(test)
    return kept


def main(name, patterns):
    from test import support

    support.use_resources = []
    support.verbose = False
    run = lambda suite: without(suite, patterns).run(Result())
    # Modules that put their tests together themselves do so in `test_main`.
    support._run_suite = run
    try:
        module = importlib.import_module("test." + name)
        if hasattr(module, "test_main"):
            module.test_main()
        else:
            run(unittest.defaultTestLoader.loadTestsFromModule(module))
        report("done", name)
    except unittest.SkipTest as skipped:
        report("skip", name, need_in(str(skipped)) or skipped)
    except Exception as error:
        report("fail", name, reason_of(error))
        traceback.print_exc()


main(sys.argv[1], sys.argv[2:])
