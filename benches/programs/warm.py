"""A native interpreter whose imports are done. It answers requests, each a line with a Python literal, and each answer is a
line: the nanoseconds that the work took, if it did that itself, and a literal of what was printed.

`warm.py bare` does the work itself, `warm.py fork` in a child for each request."""

import ast, base64, collections, datetime, functools, hashlib, io, itertools, json, math, os, re, statistics, sys, time


def bare(request):
    stdout, sys.stdout = sys.stdout, io.StringIO()
    start = time.perf_counter_ns()
    exec(compile(request, "request", "exec"), {"__name__": "__main__", **MODULES})
    elapsed = time.perf_counter_ns() - start
    printed, sys.stdout = sys.stdout.getvalue(), stdout
    return elapsed, printed


def fork(request):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        exec(compile(request, "request", "exec"), {"__name__": "__main__", **MODULES})
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    printed = b""
    while piece := os.read(reading, 65536):
        printed += piece
    os.close(reading)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a child has failed")
    return 0, printed.decode()


MODULES = {name: module for name, module in globals().items() if type(module) is type(sys)}
answer = {"bare": bare, "fork": fork}[sys.argv[1]]
for line in sys.stdin:
    elapsed, printed = answer(ast.literal_eval(line))
    print(elapsed, repr(printed), flush=True)
