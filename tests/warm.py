"""Runs command lines in processes of their own that have the large libraries imported already: forks of this one.

Started once by each worker of the tests. A request is a line of JSON on standard input, the answer to it the exit status on
standard output: as of :mod:`subprocess`, negative for a signal. Nothing of ``spaceevo`` is imported before a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback

#: Those that take long and start no threads, as onnxruntime does; pyarrow, which pandas imports, does not where it is told so.
LIBRARIES = (
    "hydra", "jinja2", "lightning", "numba", "omegaconf", "onnx.reference", "pandas", "pyarrow.parquet", "safetensors.torch",
    "scipy.stats", "sklearn.datasets", "sklearn.ensemble", "torchvision.transforms.v2", "yaml",
)  # fmt: skip
#: Of each kind of a command line's arguments one: the grammars that read them learn as they read.
ARGUMENTS = ("experiment=tiny", "a.b=1e-3", "a=[0.2,5]", "a=x,y", "+a.b=null", "~a", "a='b c'", "a={b: 1}", "a=/b-c/d_e@f.g")


def serve() -> None:
    """Answer requests until standard input ends; returns in a fork, ready to run its command line."""
    for name in LIBRARIES:
        importlib.import_module(name)
    read_some()
    assert os.listdir("/proc/self/task") == [str(os.getpid())], "a fork would lose the other threads"
    gc.freeze()  # so that no fork copies it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            become(request)
            return
        print(json.dumps(status(child, request["timeout"])), file=answers, flush=True)
    sys.exit()


def read_some() -> None:
    """Read arguments and references of each kind."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    OverridesParser.create().parse_overrides(list(ARGUMENTS))
    OmegaConf.to_container(OmegaConf.create({"a": 1, "b": "${a}/${oc.env:HOME}-${a}", "c": "${oc.decode:'[1]'}"}), resolve=True)


def become(request: dict) -> None:
    """This process as a fresh one of the command line would be."""
    for stream, path in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(held, stream)
        os.close(held)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["folder"]
    sys.path[1:1] = [path for path in request["env"]["PYTHONPATH"].split(":") if path not in sys.path]
    sys.argv = [request["module"], *request["arguments"]]
    exec(request["first"], {})


def status(child: int, timeout: float) -> int | None:
    """The exit status of a child, killed and None where it takes longer than ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(found)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run() -> int:
    """The exit code of ``python -m <module>``, as the interpreter finds it."""
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
    code = run()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without tearing down what is shared with the parent, which takes longer than most command lines
