"""The suites: which programs, which tests, and how one is run natively and sealed."""

import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
from itertools import zip_longest

from compare import HERE, Missing, need


def fresh(work, name):
    """An empty directory of that name."""
    directory = os.path.join(work, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    return directory


def source(work, package, release=None):
    """The unpacked source of a Debian package, fetched with apt-get without changing anything of the machine's."""
    place = os.path.join(work, "source", package)
    if not os.path.isdir(place):
        partial = fresh(work, "source/partial")
        release = release or re.search(r"VERSION_CODENAME=(\w+)", open("/etc/os-release").read())[1]
        lists = fresh(work, "source/lists")
        os.makedirs(os.path.join(lists, "partial"))
        key = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
        sources = os.path.join(partial, "sources.list")
        with open(sources, "w") as file:
            file.write(f"deb-src [{key}] http://deb.debian.org/debian {release} main\n")
        options = ["-qq", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=", "-o", f"Dir::State::lists={lists}",
                   "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null",
                   "-o", f"Dir::Cache={lists}"]
        for command in (["update"], ["source", "--download-only", package]):
            if subprocess.run(["apt-get", *options, *command], cwd=partial).returncode:
                raise Missing(f"apt-get cannot fetch the source of {package}; its messages are above")
        archive = max(glob.glob(f"{partial}/*.orig.tar.*"), key=os.path.getsize)
        subprocess.run(["tar", "-xf", archive, "--no-same-owner", "-C", partial], check=True)
        unpacked = next(entry.path for entry in os.scandir(partial) if entry.is_dir())
        packaging = glob.glob(f"{partial}/*.debian.tar.*")
        subprocess.run(["tar", "-xf", *packaging, "--no-same-owner", "-C", unpacked], check=True)
        subprocess.run(["chmod", "-R", "a+rX", unpacked], check=True)
        os.rename(unpacked, place)
    return place


def python(sandbox, tally, chosen):
    """Python's own regression tests, module by module, all in one process (Debian's libpython3*-testsuite)."""
    need("/usr/bin/python3", "python3")
    version = subprocess.run(["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                             capture_output=True, text=True).stdout.strip()
    need(f"/usr/lib/python{version}/test/test_json", f"libpython{version}-testsuite")
    etc = users(sandbox)
    shutil.copy(os.path.join(HERE, "python_results.py"), etc)
    for module in chosen or tally.expected.units:
        without = tally.expected.not_run(module)
        arguments = ["/usr/bin/python3", "/etc/python_results.py", module, *without]
        native = [argument.replace("/etc/", etc + "/") for argument in arguments]
        _, before = sandbox.native(native, fresh(sandbox.work, "python"))
        _, after = sandbox.sealed(arguments, ["--libs", "--tmp", "1G", "--dir", f"{etc}:/etc"], "/tmp")
        tally.add(module, of_python(module, before), of_python(module, after))


def users(sandbox):
    """A directory with what tests look up in /etc, which is no part of what `--libs` grants."""
    etc = fresh(sandbox.work, "etc")
    for file in ("/etc/passwd", "/etc/group"):
        shutil.copy(file, etc)
    return etc


def of_python(module, output):
    results, running, is_complete = {}, None, False
    for outcome, name, reason in re.findall(r"@@ (\w+)\t([^\t\n]*)\t([^\n]*)", output.decode(errors="replace")):
        if outcome == "start":
            running = name
            results.setdefault(name, ("unfinished", ""))
        elif outcome == "done" or name == module:
            is_complete = True
            results.update({module: (outcome, reason)} if outcome != "done" else {})
        elif results.get(name, ("",))[0] != "fail":
            results[name] = (outcome, reason)
    if not is_complete:
        results["the module"] = ("cut", f"in {running}")
    return results


def busybox(sandbox, tally, chosen):
    """The test suite of busybox: its shell scripts run natively, and every applet that they start is sealed."""
    need("/bin/busybox", "busybox-static")
    tests = os.path.join(source(sandbox.work, "busybox"), "testsuite")
    found = {}
    for kind in ("native", "sealed"):
        root = fresh(sandbox.work, f"busybox/{kind}")
        shutil.copytree(tests, f"{root}/testsuite")
        shutil.copytree(os.path.join(os.path.dirname(tests), "scripts"), f"{root}/scripts")
        shutil.copy(os.path.join(os.path.dirname(tests), "debian/config/pkg/static"), f"{root}/.config")
        with open(f"{root}/busybox", "w") as file:
            file.write(BUSYBOX[kind])
        os.chmod(f"{root}/busybox", 0o755)
        found[kind] = root
    for applet in chosen or tally.expected.units:
        results = []
        for kind, root in found.items():
            env = {"AMPOULE": sandbox.ampoule, "ROOT": root, "SECONDS_EACH": str(sandbox.seconds)}
            _, output = sandbox.native(["./runtest", applet], f"{root}/testsuite", env)
            lines = re.findall(r"^(PASS|FAIL|SKIPPED|UNTESTED): (.*)$", output.decode(errors="replace"), re.M)
            outcomes = {"PASS": "pass", "FAIL": "fail"}
            results.append({name.strip(): (outcomes.get(outcome, "skip"), "") for outcome, name in lines})
        tally.add(applet, *results)


BUSYBOX = {
    "native": '#!/bin/bash\nexec -a "${0##*/}" /bin/busybox "$@"\n',
    "sealed": """#!/bin/bash
options=()
while IFS= read -r name; do options+=(--env "$name=${!name}"); done < <(compgen -e)
exec "$AMPOULE" run --root / --dir "$ROOT:$ROOT:rw" --tmp 64M --cwd "$PWD" --memory 512M --deadline "${SECONDS_EACH}s" \\
    --arg0 "${0##*/}" "${options[@]}" /bin/busybox "$@"
""",
}


def applets(sandbox, tally, chosen):
    """Command lines for each applet of busybox, which a shell of the host runs in a directory of their own: first natively,
    then with every `busybox` sealed. A test is a line: what it prints, how it ends, and the files that it leaves."""
    need("/bin/busybox", "busybox-static")
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split()
    tally.all_of(listed)
    place = os.path.join(sandbox.work, "applets", "here")
    for kind, script in BUSYBOX.items():
        with open(os.path.join(fresh(sandbox.work, f"applets/{kind}"), "busybox"), "w") as file:
            file.write(script)
        os.chmod(file.name, 0o755)
    inputs = "; ".join(tally.expected.lines("inputs"))
    for applet in chosen or [unit for unit in tally.expected.units if unit != "inputs"]:
        results = []
        for kind in BUSYBOX:
            fresh(sandbox.work, "applets/here")
            sandbox.native(["/bin/sh", "-c", inputs], place)
            env = {"AMPOULE": sandbox.ampoule, "ROOT": place, "SECONDS_EACH": str(sandbox.seconds),
                   "PATH": f"{sandbox.work}/applets/{kind}:/usr/bin:/bin"}
            found = {}
            for line in tally.expected.lines(applet):
                code, output = sandbox.native(["/bin/sh", "-c", line], place, env)
                found[line] = ("\n".join([f"status {code}", printed(output), *left_in(place).values()]), "")
            results.append(found)
        tally.add(applet, *same_or_not(*results))


def jq(sandbox, tally, chosen):
    """The tests of jq, each file in one process."""
    need("/usr/bin/jq", "jq")
    tests = os.path.join(source(sandbox.work, "jq"), "tests")
    for file in chosen or tally.expected.units:
        command = ["/usr/bin/jq", "-L", "modules", "--run-tests", file]
        _, before = sandbox.native(command, tests)
        _, after = sandbox.sealed(command, ["--libs", "--tmp", "64M", "--dir", f"{tests}:/tests"], "/tests")
        tally.add(file, of_lines(before), of_lines(after))


def of_lines(output):
    """Each line that a program prints is a test, which is to be the same."""
    lines = output.decode(errors="replace").splitlines()
    return {f"line {number}: {line}": ("pass", "") for number, line in enumerate(lines, 1)}


def quickjs(sandbox, tally, chosen):
    """The tests of QuickJS, with an interpreter that is built of the source package of Debian's current development."""
    need("/usr/bin/make", "make")
    place = source(sandbox.work, "quickjs", "sid")
    if not os.path.exists(f"{place}/qjs"):
        subprocess.run(["make", "-C", place, "CONFIG_LTO=", "qjs"], check=True, stdout=subprocess.DEVNULL)
    for file in chosen or tally.expected.units:
        command = [f"{place}/qjs", "--std", file]
        options = ["--libs", "--tmp", "64M", "--dir", f"{place}/tests:/tests"]
        runs = [sandbox.native(command, f"{place}/tests"), sandbox.sealed(command, options, "/tests")]
        tally.add(file, *({file: ("fail" if code or b"unhandled" in output else "pass", "")} for code, output in runs))


def gawk(sandbox, tally, chosen):
    """The tests of gawk that are a program (`x.awk`), perhaps with an input (`x.in`)."""
    need("/usr/bin/gawk", "gawk")
    tests = os.path.join(source(sandbox.work, "gawk"), "test")
    # They write files beside themselves.
    places = [os.path.join(sandbox.work, "gawk", kind) for kind in ("native", "sealed")]
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tests, place)
    names = [name[:-4] for name in sorted(os.listdir(tests)) if name.endswith(".awk")]
    native, sealed = {}, {}
    for name in chosen or names:
        if name in tally.expected.left_out or not os.path.exists(f"{tests}/{name}.ok"):
            continue
        stdin = open(f"{tests}/{name}.in", "rb").read() if os.path.exists(f"{tests}/{name}.in") else b""
        command, env = ["/usr/bin/gawk", "-f", f"{name}.awk"], {"LC_ALL": "C", "AWKPATH": "."}
        before = sandbox.native(command, places[0], env, stdin)
        options = ["--libs", "--tmp", "64M", "--dir", f"{places[1]}:/tests:rw"]
        after = sandbox.sealed(command, options, "/tests", env, stdin)
        native[name] = ("pass", "")
        is_same = before[0] == after[0] and sorted(before[1].splitlines()) == sorted(after[1].splitlines())
        needs = "processes" if re.search(rb"fork|clone|two way pipe", after[1]) else "network" if b"resolution" in after[1] else ""
        sealed[name] = ("pass", "") if is_same else ("other output", needs)
    tally.add("programs", native, sealed)


def perl(sandbox, tally, chosen):
    """The core tests of perl, each file in one process, with the modules of the installed perl."""
    need("/usr/share/perl/5.36" if os.path.exists("/usr/share/perl/5.36") else "/usr/bin/perl", "perl perl-modules-5.36")
    root = fresh(sandbox.work, "perl")
    shutil.copytree(os.path.join(source(sandbox.work, "perl"), "t"), f"{root}/t", symlinks=True)
    # What ends a test that hangs is to be an alarm, and not another process or thread.
    watchdog = r's/my \$method  = shift || "";/my $method = "alarm";/'
    subprocess.run(["sed", "-i", watchdog, f"{root}/t/test.pl"], check=True)
    version = subprocess.run(["/usr/bin/perl", "-e", "printf '%vd', $^V"], capture_output=True, text=True).stdout
    for library in (f"/usr/share/perl/{version}", f"/usr/lib/x86_64-linux-gnu/perl/{version}",
                    "/usr/lib/x86_64-linux-gnu/perl-base"):
        if os.path.isdir(library):
            shutil.copytree(library, f"{root}/lib", dirs_exist_ok=True)
    os.symlink("/usr/bin/perl", f"{root}/t/perl")
    trace, etc = os.path.join(sandbox.work, "perl.trace"), users(sandbox)
    for chosen_part in chosen or tally.expected.units:
        for path in sorted(glob.glob(f"{root}/t/{chosen_part}/*.t")) or [f"{root}/t/{chosen_part}"]:
            file = os.path.relpath(path, f"{root}/t")
            directory = os.path.dirname(file)
            if file in tally.expected.left_out:
                continue
            command, env = ["/usr/bin/perl", file], {"PERL_CORE": "1", "LC_ALL": "C"}
            _, before = sandbox.native(command, f"{root}/t", env)
            # A library that the program can change is not executed.
            options = ["--libs", "--tmp", "64M", "--dir", f"{root}:/p:rw", "--dir", f"{root}/lib:/p/lib",
                       "--dir", f"{etc}:/etc", f"--trace={trace}"]
            _, after = sandbox.sealed(command, options, "/p/t", env)
            # What a single test needs cannot be seen, so it counts as explained where its file has asked for it.
            tally.add(directory, of_perl(file, before), of_perl(file, after), need=refused(trace))


def refused(trace):
    """What a program has first asked for that no sandbox has, if anything: its trace says so behind the call, as in
    `clone(0x1200011, …) = -1 ENOSYS (threads or processes) <0.000004>`."""
    with open(trace, errors="replace") as lines:
        for line in lines:
            found = re.search(r"= -1 E[A-Z]+ \(([^()]*)\) <", line)
            # A C library asks a daemon for the names of users before it reads /etc, and does without.
            if found and not line.startswith("socket(AF_UNIX"):
                flags = re.match(r"clone\((0x[0-9a-f]+)", line)
                is_thread = line.startswith("clone3(") or flags and int(flags[1], 16) & CLONE_THREAD
                return "threads" if is_thread else REFUSED.get(found[1], found[1])
    return ""


CLONE_THREAD = 0x10000  # linux/sched.h
# The reason of the kept lists, by what a call needs (docs/personality.md).
REFUSED = {"threads or processes": "processes", "memory between processes": "processes"}


def of_perl(file, output):
    results = {}
    for outcome, number, rest in re.findall(r"^(not ok|ok) (\d+)(.*)$", output.decode(errors="replace"), re.M):
        is_skipped = "# skip" in rest.lower()
        results[f"{file} {number}"] = ("skip" if is_skipped else "pass" if outcome == "ok" else "fail", rest.strip()[:100])
    return results


def scripts(sandbox, tally, chosen, program, grants, stdin=False):
    """Scripts of our own, each in a fresh directory, with a program that is looked for in PATH: a test is each line that it
    prints, how it ends, and each file that it leaves."""
    for script in chosen or tally.expected.units:
        with open(os.path.join(HERE, script), "rb") as file:
            text = file.read()
        results = []
        for run in (sandbox.native, sandbox.sealed):
            place = fresh(sandbox.work, "scripts/here")
            command = program if stdin else [*program, "script"]
            if not stdin:
                with open(f"{place}/script", "wb") as file:
                    file.write(text)
            env = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
            options = [*grants, "--dir", f"{place}:{place}:rw"]
            where = [place] if run == sandbox.native else [options, place]
            code, output = run(command, *where, env, text if stdin else b"")
            lines = [line for line in printed(output).splitlines() if not line.startswith(REPORT)]
            found = {f"line {number}": (line, "") for number, line in enumerate(lines, 1)}
            found["status"] = (str(code), "")
            found.update({f"file {name}": (content, "") for name, content in left_in(place).items()})
            results.append(found)
        tally.add(script, *same_or_not(*results))


def sqlite(sandbox, tally, chosen):
    """Scripts for the shell of SQLite. Databases that they leave are compared by what `.dump` prints."""
    need("/usr/bin/sqlite3", "sqlite3")
    scripts(sandbox, tally, chosen, ["sqlite3", "-batch", "main.db"], ["--libs", "--tmp", "64M"], stdin=True)


def bash(sandbox, tally, chosen):
    """Scripts for bash, without processes."""
    need("/bin/bash-static", "bash-static")
    scripts(sandbox, tally, chosen, ["bash-static"], ["--root", "/", "--tmp", "64M"])


def dash(sandbox, tally, chosen):
    """Scripts for dash, without processes."""
    need("/usr/bin/dash", "dash")
    scripts(sandbox, tally, chosen, ["dash"], ["--libs", "--tmp", "64M"])


def lua(sandbox, tally, chosen):
    """Scripts for the standard library of Lua."""
    need("/usr/bin/lua5.4", "lua5.4")
    scripts(sandbox, tally, chosen, ["lua5.4"], ["--libs", "--tmp", "64M"])


# What `ampoule run` says of a program that has failed, beside what that prints.
REPORT = "ampoule: the program has made "


def printed(output):
    return output.decode(errors="backslashreplace")


def left_in(place):
    """Each file below a directory by its name: its kind, permissions, links and contents."""
    found = {}
    for directory, directories, files in os.walk(place):
        for name in directories + files:
            path = os.path.join(directory, name)
            kind = os.lstat(path)
            content = f"{os.path.relpath(path, place)} {stat.filemode(kind.st_mode)} {kind.st_nlink}"
            if stat.S_ISLNK(kind.st_mode):
                content += " to " + os.readlink(path)
            elif stat.S_ISREG(kind.st_mode) and os.access(path, os.R_OK):
                with open(path, "rb") as file:
                    content += " " + digest(path, file.read())
            found[os.path.relpath(path, place)] = content
    return dict(sorted(found.items()))


def digest(path, content):
    if content.startswith(b"SQLite format 3"):
        dump = subprocess.run(["/usr/bin/sqlite3", "-readonly", path, ".dump"], capture_output=True)
        content = dump.stdout + dump.stderr
    return hashlib.sha256(content).hexdigest()


def same_or_not(native, sealed):
    """The outcomes of tests that pass natively, whatever they print, and have to be the same when they are sealed."""
    outcomes = {}
    for name in native.keys() | sealed.keys():
        before, after = native.get(name, ("", ""))[0], sealed.get(name, ("", ""))[0]
        changed = next((f"{b!r} for {a!r}" for a, b in zip_longest(before.splitlines(), after.splitlines()) if a != b), "")
        outcomes[name] = ("pass", "") if before == after else ("other", changed[:400])
    return dict.fromkeys(native, ("pass", "")), outcomes


SUITES = {"python": python, "busybox": busybox, "applets": applets, "jq": jq, "quickjs": quickjs, "gawk": gawk, "perl": perl,
          "sqlite": sqlite, "bash": bash, "dash": dash, "lua": lua}
