# SPDX-License-Identifier: Apache-2.0
"""The command `netns-lab/lab`: outside it starts the sandbox and waits, inside (`--inside`) it does the work.

Exit codes: 0 done, 1 failed (a scenario's own verdict too), 2 usage, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from netns_lab.errors import LabError
from netns_lab.kept_lab import (
    ask,
    end_kept_lab,
    enter_command,
    need_kept_lab,
    serve_control,
    start_in_background,
    written_down,
)
from netns_lab.lab import Lab
from netns_lab.sandbox import (
    INSIDE_OPTION,
    PROGRAM,
    LabInterrupted,
    enter,
    probe,
    probe_inside,
    run_in_sandbox,
)
from netns_lab.scenario import (
    PROFILES,
    SCENARIOS,
    TOPOLOGIES,
    ScenarioContext,
    describe_scenario,
    find_profile,
    find_scenario,
    find_topology,
    load_scenario,
)

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="lab", description="Networks of namespaces with slow, lossy, breakable links."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="topologies, link profiles and scenarios")
    command = commands.add_parser("probe", help="say whether a lab can be made here, and what would run")
    command.add_argument("--quiet", action="store_true", help="only the exit code and errors")
    command = commands.add_parser("run", help="make a lab, run a scenario in it, leave nothing")
    _add_lab_options(command)
    command.add_argument("--all", action="store_true", help="every scenario of `lab list`, one after the other")
    command.add_argument("scenario", nargs="?", help="a name from `lab list` or the path of a .py file")
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="for the scenario")
    command = commands.add_parser("up", help="make a lab and keep it until Ctrl-C or `lab down`")
    _add_lab_options(command)
    command.add_argument("--background", action="store_true", help="return when the lab is ready")
    command.add_argument("topology", help="a name from `lab list` or the path of a .toml file")
    command = commands.add_parser("exec", help="run a program in a node of the lab that is up")
    command.add_argument("node")
    command.add_argument("program", nargs=argparse.REMAINDER)
    command = commands.add_parser("link", help="cut or restore a link of the lab that is up, or change its profile")
    command.add_argument("link")
    command.add_argument("action", choices=["cut", "restore", "profile"])
    command.add_argument("profile", nargs="?", help="for the action `profile`")
    command.add_argument("--towards", metavar="NODE", help="only frames to this member")
    commands.add_parser("status", help="back end, links and frame counters of the lab that is up")
    commands.add_parser("down", help="end the lab that is up")
    return parser


def _add_lab_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", choices=["auto", "netem", "relay"], default="auto")
    command.add_argument("--seed", type=int, default=0, help="of the relay's chance")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    is_inside = given[:1] == [INSIDE_OPTION]
    options = make_parser().parse_args(given[1:] if is_inside else given)
    try:
        return _run_inside(options) if is_inside else _run_outside(options, given)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except LabInterrupted as signal_name:
        print(f"lab: ended by {signal_name}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run_outside(options: argparse.Namespace, given: list[str]) -> int:
    match options.command:
        case "list":
            _list()
            return 0
        case "run":
            return _run_scenarios(options)
        case "up":
            topology = find_topology(options.topology)
            probe()
            if options.background:
                words = [word for word in given if word != "--background"]
                start_in_background([sys.executable, str(PROGRAM), *words])
                return 0
            with written_down(topology.name):
                return run_in_sandbox(given)
        case "probe":
            probe()
            return run_in_sandbox(given)
        case "exec":
            if not options.program:
                raise LabError("exec needs a program: lab exec NODE PROGRAM [ARGUMENTS]")
            program = ["ip", "netns", "exec", options.node, *options.program]
            return _become(enter_command(need_kept_lab(), program))
        case "link" | "status":
            return _become(enter_command(need_kept_lab(), [sys.executable, str(PROGRAM), INSIDE_OPTION, *given]))
        case "down":
            end_kept_lab(need_kept_lab())
            return 0
        case other:
            raise AssertionError(other)


def _run_scenarios(options: argparse.Namespace) -> int:
    """One scenario, or all; each in a sandbox of its own."""
    if options.all == (options.scenario is not None):
        raise LabError("run needs the name of a scenario, or --all")
    names = [path.stem for path in sorted(SCENARIOS.glob("*.py"))] if options.all else [options.scenario]
    for name in names:
        find_scenario(name)
    probe()
    lab_options = ["--backend", options.backend, "--seed", str(options.seed)]
    codes: list[int] = []
    for name in names:
        if options.all:
            print(f"== {name}", flush=True)
        codes.append(run_in_sandbox(["run", *lab_options, name, *options.arguments]))
    return next((code for code in codes if code), 0)


def _become(command: list[str]) -> int:
    sys.stdout.flush()
    os.execvp(command[0], command)


def _run_inside(options: argparse.Namespace) -> int:
    if options.command in ("link", "status"):
        return _ask(options)
    enter()
    match options.command:
        case "probe":
            lines = probe_inside()
            if not options.quiet:
                print("\n".join(lines))
            return 0
        case "run":
            run = load_scenario(find_scenario(options.scenario))
            return run(ScenarioContext(options.arguments, options.backend, options.seed))
        case "up":
            with Lab(find_topology(options.topology), backend=options.backend, seed=options.seed) as lab:
                _keep(lab)
            return 0
        case other:
            raise LabError(f"{INSIDE_OPTION} {other}: not a command of the inner process")


def _keep(lab: Lab) -> None:
    print(lab.report(), flush=True)
    print("up; `lab exec NODE PROGRAM` runs a program in a node, Ctrl-C or `lab down` ends the lab", flush=True)
    try:
        serve_control(lambda request: _handle(lab, request))
    except LabInterrupted:
        print("down", file=sys.stderr)


def _handle(lab: Lab, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "status":
        return {"text": lab.report()}
    link = lab.link(request["link"])
    match request["do"]:
        case "cut":
            link.cut(request["towards"])
        case "restore":
            link.restore(request["towards"])
        case "profile":
            link.set_profile(find_profile(request["profile"]), request["towards"])
    return {"text": f"{request['link']}: {request['do']}"}


def _ask(options: argparse.Namespace) -> int:
    if options.command == "status":
        print(ask({"do": "status"})["text"])
        return 0
    if (options.action == "profile") != (options.profile is not None):
        raise LabError("give a profile's name with the action `profile`, and only there")
    answer = ask({"do": options.action, "link": options.link, "towards": options.towards, "profile": options.profile})
    print(answer["text"])
    return 0


def _list() -> None:
    print("topologies:")
    for path in sorted(TOPOLOGIES.glob("*.toml")):
        topology = find_topology(path.stem)
        print(f"  {topology.name:<14} {topology.description}")
    print("link profiles:")
    for path in sorted(PROFILES.glob("*.toml")):
        print(f"  {path.stem:<14} {find_profile(path.stem).summary()}")
    print("scenarios:")
    for path in sorted(SCENARIOS.glob("*.py")):
        print(f"  {path.stem:<14} {describe_scenario(path)}")
