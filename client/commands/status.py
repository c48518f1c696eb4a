"""fedfin-institution status: running services, connection to the hub, and the agent's progress."""

import argparse
from pathlib import Path
from typing import Any

from client.commands.options import add_home, open_home
from common import cli

__all__ = ["add"]


def add(commands: cli.Commands) -> None:
    """`status`."""
    text = (
        "running services, connection to the hub and the agent's progress (exit code 1 if a service is down or hangs)"
    )
    status = cli.subcommand(commands, "status", _run, text, "status --home /srv/fedfin")
    add_home(status)
    cli.add_passphrase(status)


def _run(args: argparse.Namespace) -> int:
    from client.institution.enrolment import expiring
    from client.node.connection import clock_ahead, describe, hung_for, last_seen
    from client.node.processes import agent_status, state_path
    from common.processes.supervisor import running_services

    home = open_home(args)
    name, package = home.settings().name, home.package()
    running = [each for part in ("all", "agent", "node") for each in running_services(state_path(home, part))]
    for each in running:
        each["hung"] = each["name"] == "supernode" and each["up"] and hung_for(home) is not None
    days = home.certificate().days_left()
    facts: dict[str, Any] = {
        "institution": name,
        "hub": package.address,
        "hub_seen_seconds_ago": last_seen(home),
        "clock_ahead_seconds": clock_ahead(home),
        "services": running,
        "agent_serving": is_serving(home.socket),
        "agent": agent_status(home),
        "certificate_days_left": round(days, 1),
    }
    well = bool(running) and all(each["up"] and not each["hung"] for each in running)
    well = well and (facts["agent_serving"] or not any(each["name"] == "agent" for each in running))
    if args.json:
        cli.print_json(facts)
        return 0 if well else 1
    for each in running:
        word = "hung: it does not call the hub" if each["hung"] else "up"
        state = f"{word} (process {each['pid']})" if each["up"] else "down"
        print(f"{each['name']:<10} {state}, restarted {each['restarts']} times, log {each['log']}")
    if not running:
        print(f"nothing runs: fedfin-institution start --home {home.directory}")
    at = facts["agent"]
    doing = at["state"]
    if "run" in at:
        doing = f"run {at['run']}, round {at['round']}, step {at.get('step', 0)} of {at.get('steps', '?')}"
    print(f"agent      {doing}, {'serving' if facts['agent_serving'] else 'not serving'}")
    print(f"hub        {describe(home, package.address)}")
    print(f"certificate of {name}: {days:.0f} days left")
    for line in expiring(home):
        print(line)
    return 0 if well else 1


def is_serving(socket: Path) -> bool:
    """Ask gRPC's standard health service behind the agent's socket."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
